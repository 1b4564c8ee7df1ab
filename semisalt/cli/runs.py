"""What is done with trained runs: predict, submit, show, compare."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semisalt.cli.options import (
    MosaicOption,
    MovedOption,
    RunArgument,
    a_run,
    console,
    device,
    fold_list,
)
from semisalt.errors import UserError
from semisalt.run import RunDirectory, find_run

if TYPE_CHECKING:
    from semisalt.config import Config


class Format(StrEnum):
    """How a comparison is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"


class At(StrEnum):
    """Where runs are compared."""

    half = "0.5"
    cross_fitted = "cross-fitted"


StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study", help="A threshold study of the run: predict with the best that it found, into the study's directory."
    ),
]


def predict(
    run: RunArgument,
    files: Annotated[list[Path] | None, typer.Argument(help="PNG tiles; without any, a data set.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder or zip of tiles; without it the run's own data.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder; needed with files or --data, else predictions/ of run or study."),
    ] = None,
    mosaic: MosaicOption = False,
    study: StudyOption = None,
) -> None:
    """Write probability maps and masks of unlabelled tiles, of a data set or of single files.

    Example: [bold]semisalt predict cpu[/bold] · [bold]semisalt predict cpu tile1.png tile2.png --out masks[/bold]
    """
    from semisalt.data.read import load_images, load_survey
    from semisalt.inference.outputs import own_survey, unlabelled_of
    from semisalt.inference.outputs import predict as predict_tiles
    from semisalt.report.maps import overview, write_maps

    if (files or data is not None) and out is None:
        raise UserError(f"add --out FOLDER: {run.path}/predictions is kept for the run's own data")
    if files and data is not None:
        raise UserError("give files or --data, not both")
    if mosaic and (files or data is not None):
        raise UserError("--mosaic needs the neighbours of the run's own tiles: leave out files and --data")
    place, by = _found(study, run, mosaic)
    target = out or place / "predictions"
    with run.lock():
        if files:
            tiles, cache = load_images(files), target / "folds"
        elif data is not None:
            tiles, cache = load_survey(data).unlabelled, target / "folds"
        else:
            survey = own_survey(run, None)
            tiles, cache = unlabelled_of(run, survey), place / "unlabelled"
        prediction = predict_tiles(run, tiles, cache, device(), console.print, by)
        if mosaic:
            from semisalt.mosaics.apply import correction

            prediction = correction(run, survey, device(), console.print)(prediction)
        write_maps(target, tiles.ids, prediction.probabilities, prediction.masks)
        picture = target / "overview.png"
        overview(run, prediction, picture)
    console.print(f"{len(tiles)} tiles, {prediction.operating.words}")
    console.print(f"{target}/probability, {target}/mask\npicture: {picture}")


def submit(
    run: RunArgument,
    data: MovedOption = None,
    mosaic: MosaicOption = False,
    study: StudyOption = None,
) -> None:
    """Write a checked submission.csv for all unlabelled tiles of the run's data.

    Example: [bold]semisalt submit cpu[/bold] · [bold]semisalt submit cpu --study study_threshold[/bold]
    """
    from semisalt.inference.outputs import own_survey
    from semisalt.inference.outputs import submit as write_submission

    place, by = _found(study, run, mosaic)
    with run.lock():
        survey = own_survey(run, data)
        correct = None
        if mosaic:
            from semisalt.mosaics.apply import correction

            correct = correction(run, survey, device(), console.print)
        path = write_submission(run, survey, device(), console.print, correct, by, place if study else None)
    console.print(f"submission: {path}")


def _found(study: str | None, run: RunDirectory, mosaic: bool) -> "tuple[Path, Config | None]":
    """Where predictions go, and the recipe that makes them where it is not the run's own."""
    if study is None:
        return run.path, None
    if mosaic:
        raise UserError("--mosaic corrects what the run itself says: leave out --study")
    from semisalt.studies.directory import StudyDirectory
    from semisalt.studies.found import found_recipe, told

    directory = StudyDirectory.find(study)
    by = found_recipe(directory, run)
    console.print(f"as {directory.path} found it: {told(by)}")
    return directory.path, by


def show(run: RunArgument) -> None:
    """Print a run's results.

    Example: [bold]semisalt show cpu[/bold]
    """
    from semisalt.report.tables import results_table

    console.print(results_table(run))


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Two or more: names under runs/, or paths. NAME=RUN names it in the table; RUN,RUN joins folds that "
            "were trained apart.",
        ),
    ],
    folds: Annotated[
        str | None, typer.Option("--folds", help="Which folds' tiles, for example 0,1; without it all that are common.")
    ] = None,
    data: MovedOption = None,
    at: Annotated[
        At,
        typer.Option(help="At threshold 0.5, or each tile at the operating point that other tiles of its run chose."),
    ] = At.half,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> None:
    """Print runs side by side: scores on the same held-out tiles, and paired differences to the first.

    Example: [bold]semisalt compare baseline teacher runs/pseudo_cpu/round1 --format markdown > table.md[/bold]
    """
    if len(runs) < 2:
        raise UserError(f"{runs[0]} alone cannot be compared: name two runs or more (semisalt show RUN prints one)")
    named = [_named(text) for text in runs]

    from semisalt.data.read import load_survey
    from semisalt.inference.compare import Subject
    from semisalt.inference.compare import compare as compare_runs
    from semisalt.report.compare import comparison_csv, comparison_markdown, comparison_table

    subjects = [Subject(name, parts) for name, parts in named]
    survey = load_survey(data or subjects[0].runs[0].source())
    comparison = compare_runs(subjects, survey, fold_list(folds), "half" if at is At.half else "cross_fitted")
    if form is Format.table:
        console.print(comparison_table(comparison))
    else:
        text = comparison_markdown(comparison) if form is Format.markdown else comparison_csv(comparison)
        typer.echo(text, nl=False)


def _named(text: str) -> tuple[str, tuple[RunDirectory, ...]]:
    """'NAME=RUN,RUN' or 'RUN'; a path that exists is taken as it is, whatever it is called."""
    if (find_run(text) / "config.yaml").exists():
        name, places = text, [text]
    else:
        head, equals, tail = text.partition("=")
        places = (tail if equals else head).split(",")
        name = head if equals else text
    return name, tuple(a_run(place) for place in places)
