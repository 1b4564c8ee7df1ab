"""The command line: parse, call one function, print."""

import errno
import os
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from semisalt.cli import data, machine, mosaic, pseudo, runs, study, train
from semisalt.cli.options import console
from semisalt.errors import UserError
from semisalt.memory import keep_freed_memory
from semisalt.processes import rank

# A path that cannot be written where the user wants it: that is no fault of ours, whoever notices it.
_OF_THE_PLACE = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG
)  # fmt: skip

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(pseudo.app, name="pseudo")
app.add_typer(mosaic.app, name="mosaic")
app.add_typer(study.app, name="study")
for command in (train.baseline, train.teacher, train.cotrain, runs.predict, runs.submit, runs.show, runs.compare):
    app.command()(command)
app.command()(machine.doctor)
app.command()(machine.bench)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"semisalt {version('semisalt')}")
        raise typer.Exit


@app.callback()
def everywhere(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Segment salt in seismic tiles from few labels and many unlabelled tiles."""


def main() -> None:
    """Run the command line; a mistake that the user can mend ends with its message and exit code 2."""
    # In a process started by torchrun every rank but the first keeps silent.
    if rank() > 0:
        console.quiet = True
    warnings.showwarning = lambda message, *_rest, **_named: print(f"warning: {message}", file=sys.stderr)
    keep_freed_memory()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _OF_THE_PLACE:
            raise
        # Making a folder where a file lies is reported as "File exists", which says nothing of what is wrong with it.
        wrong = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror
        # A write that fills the disk knows no name.
        named = f"{error.filename}: " if error.filename else ""
        print(f"error: {named}{wrong}: choose another place", file=sys.stderr)
        sys.exit(2)
