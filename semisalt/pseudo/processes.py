"""What the first of several processes does for all."""

from collections.abc import Callable

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from semisalt.errors import RefusedError, UserError


def by_main(accelerator: Accelerator, act: Callable[[], object]) -> None:
    """Let the main process do what is done once, while the others wait; what it refuses, all processes refuse.

    Raises UserError, or RefusedError, on each of them.
    """
    refusal: UserError | None = None
    if accelerator.is_main_process:
        try:
            act()
        except UserError as error:
            refusal = error
    said = [(str(refusal), isinstance(refusal, RefusedError)) if refusal else None]
    broadcast_object_list(said)
    if refusal:
        raise refusal
    if said[0] is not None:
        text, by_guards = said[0]
        raise RefusedError(text) if by_guards else UserError(text)
