"""The errors a user can mend; everything else is a fault of ours and keeps its traceback."""

from collections.abc import Iterable

SHOWN = 20


class UserError(Exception):
    """A mistake the user can mend; the command line prints it without a traceback and exits with code 2."""


class NotFiniteError(UserError):
    """A loss, a weight or a prediction became NaN or infinite."""


class RefusedError(UserError):
    """The guards refuse what a method has come to; what was there before it stands."""


class DataError(UserError):
    """Everything that is wrong with the data, found in one pass.

    `problems` holds all of them, each naming its file or row; the text shows the first 20 and how many there
    are, or with `whole` all of them.
    """

    def __init__(self, problems: Iterable[str], *, whole: bool = False) -> None:
        self.problems = tuple(problems)
        self.shown = len(self.problems) if whole else SHOWN
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{count} problem{'' if count == 1 else 's'} in the data:"]
        lines += [f"  {problem}" for problem in self.problems[: self.shown]]
        if count > self.shown:
            lines.append(f"  … and {count - self.shown} more (semisalt data check prints all)")
        return "\n".join(lines)
