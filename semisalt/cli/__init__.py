"""The command line: parse, call one function, print."""

import sys
import warnings

import typer

from semisalt.cli import data, machine, mosaic, pseudo, runs, study, train
from semisalt.cli.options import console, rank
from semisalt.errors import UserError
from semisalt.memory import keep_freed_memory

app = typer.Typer(
    help="Segment salt in seismic tiles from few labels and many bare tiles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
app.add_typer(data.app, name="data")
app.add_typer(pseudo.app, name="pseudo")
app.add_typer(mosaic.app, name="mosaic")
app.add_typer(study.app, name="study")
for command in (train.baseline, train.teacher, train.cotrain, runs.predict, runs.submit, runs.show, runs.compare):
    app.command()(command)
app.command()(machine.doctor)
app.command()(machine.bench)


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
