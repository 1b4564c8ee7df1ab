"""semisalt data …: check, make or download tiles."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semisalt.cli.options import console
from semisalt.errors import DataError, UserError

app = typer.Typer(help="Check, make or download tiles.", no_args_is_help=True)


@app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A folder or zip of tiles.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Read all tiles, report everything that is wrong with them, and describe them.

    Example: [bold]semisalt data check data/tgs[/bold]
    """
    from semisalt.data.check import describe
    from semisalt.data.read import load_survey
    from semisalt.report.tables import description_tables

    try:
        description = describe(load_survey(path))
    except DataError as error:
        if as_json:
            print(json.dumps({"source": str(path), "problems": error.problems}, indent=2))
            raise typer.Exit(2) from None
        raise DataError(error.problems, whole=True) from None
    if as_json:
        print(json.dumps(asdict(description), indent=2))
    else:
        console.print(description_tables(description))


@app.command("synth")
def data_synth(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    tiles: Annotated[int, typer.Option(help="Tiles in all.")] = 1000,
    labelled: Annotated[float, typer.Option(help="Share of labelled tiles (under 1), or their number.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Same seed, same survey.")] = 0,
    size: Annotated[str, typer.Option(help="Height x width of a tile.")] = "101x101",
) -> None:
    """Make a synthetic survey in the competition's layout, with every tile's truth in truth.csv.

    Example: [bold]semisalt data synth data/synthetic --tiles 4000 --labelled 0.1[/bold]
    """
    from semisalt.data.synthetic import write_survey

    height, _, width = size.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise UserError(f"--size {size}: expected HEIGHTxWIDTH, for example 101x101")
    if not (labelled <= 1 or labelled.is_integer()):
        raise UserError(f"--labelled {labelled}: neither a share under 1 nor a number of tiles")
    share = labelled if labelled < 1 else int(labelled)
    write_survey(out, tiles=tiles, labelled=share, seed=seed, shape=(int(height), int(width)))
    console.print(f"{tiles} tiles in {out}; look at them with: semisalt data check {out}")


@app.command("fetch")
def data_fetch(
    out: Annotated[Path, typer.Argument(help="A new folder.")] = Path("data/tgs"),
) -> None:
    """Download the TGS Salt Identification Challenge's tiles (needs a Kaggle login and semisalt\\[kaggle]).

    Example: [bold]semisalt data fetch[/bold]
    """
    from semisalt.data.fetch import fetch

    console.print(f"tiles in {fetch(out)}; look at them with: semisalt data check {out}")
