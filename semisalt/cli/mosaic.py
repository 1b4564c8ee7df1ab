"""semisalt mosaic …: put tiles together again, look at them, judge what that is worth."""

from pathlib import Path
from typing import Annotated

import typer

from semisalt.cli.options import MovedOption, RunArgument, a_run, console, device
from semisalt.run import RunDirectory

MOSAICS = Path("data/mosaics")

app = typer.Typer(help="Find neighbouring tiles and put them together again.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="What `mosaic build` wrote.")]


@app.command("build")
def mosaic_build(
    data: Annotated[
        Path | None,
        typer.Option(help="A folder or zip of tiles; without it data/tgs, or the synthetic survey."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="A folder; what it holds of another build is replaced.")] = MOSAICS,
) -> None:
    """Find the neighbours of all tiles and assemble them: mosaics.csv and neighbours.csv.

    Example: [bold]semisalt mosaic build --data data/tgs[/bold]
    """
    from semisalt.data.read import load_survey
    from semisalt.data.source import choose_source
    from semisalt.mosaics.build import build
    from semisalt.mosaics.store import save

    source, sentence = choose_source(data)
    console.print(sentence)
    survey = load_survey(source)
    mosaics, pairs = build(survey)
    save(out, survey, mosaics, pairs)
    console.print(
        f"{mosaics.sizes().sum()} of {len(mosaics)} tiles in {mosaics.count} mosaics, by {len(pairs)} pairs\n"
        f"tables: {out}; look at the mosaics with: semisalt mosaic show {out}"
    )


@app.command("show")
def mosaic_show(
    folder: FolderArgument = MOSAICS,
    run: Annotated[
        RunDirectory | None,
        typer.Option("--run", metavar="RUN", parser=a_run, help="A run whose predictions are drawn too."),
    ] = None,
    data: MovedOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many mosaics the page shows, the largest first.")] = 100,
) -> None:
    """Draw the largest mosaics, and write one page to browse them: labels red, a run's predictions green.

    Example: [bold]semisalt mosaic show --run cpu[/bold]
    """
    from semisalt.mosaics.store import load
    from semisalt.mosaics.view import all_tiles
    from semisalt.report.mosaics import write_pages

    survey, mosaics, _ = load(folder, data)
    page = write_pages(folder, mosaics, survey, all_tiles(survey, mosaics).images, run, limit)
    console.print(f"page: {page}\npictures: {folder / 'pictures'}")


@app.command("evaluate")
def mosaic_evaluate(
    run: RunArgument,
    folder: Annotated[
        Path | None, typer.Option("--mosaics", help="What `mosaic build` wrote; without it they are built now.")
    ] = None,
    data: MovedOption = None,
) -> None:
    """Judge each rule on the run's out-of-fold tiles; the verdict goes into its results.json and TensorBoard.

    Example: [bold]semisalt mosaic evaluate cpu[/bold]
    """
    from semisalt.inference.outputs import own_survey
    from semisalt.mosaics.build import cached
    from semisalt.mosaics.evaluate import evaluate
    from semisalt.mosaics.grid import read_mosaics
    from semisalt.mosaics.store import check
    from semisalt.report.verdict import log_verdict, verdict_table

    survey = own_survey(run, data)
    if folder is not None:
        check(folder, survey)
    mosaics, pairs = cached(survey) if folder is None else read_mosaics(folder)
    with run.lock():
        verdict = evaluate(run, survey, mosaics, pairs, device(), console.print)
        log_verdict(run, verdict)
    console.print(verdict_table(verdict))
