"""What is done with a trained run: predict, submit, show."""

from pathlib import Path
from typing import Annotated

import typer

from semisalt.cli.options import (
    MosaicOption,
    MovedOption,
    RunArgument,
    console,
    device,
)
from semisalt.errors import UserError


def predict(
    run: RunArgument,
    files: Annotated[list[Path] | None, typer.Argument(help="PNG tiles; without any, a data set.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder or zip of tiles; without it the run's own data.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder; needed with files or --data, else RUN/predictions.")
    ] = None,
    mosaic: MosaicOption = False,
) -> None:
    """Write probability maps and masks of unlabelled tiles, of a data set or of single files.

    Example: [bold]semisalt predict cpu[/bold] · [bold]semisalt predict cpu tile1.png tile2.png --out masks[/bold]
    """
    from semisalt.data.read import load_images, load_survey
    from semisalt.inference.outputs import own_survey, unlabelled_of
    from semisalt.inference.outputs import predict as predict_tiles
    from semisalt.report.maps import overview, write_maps
    from semisalt.run import RunDirectory, find_run

    if (files or data is not None) and out is None:
        raise UserError("--out is missing: RUN/predictions is kept for the run's own data")
    if files and data is not None:
        raise UserError("give files or --data, not both")
    if mosaic and (files or data is not None):
        raise UserError("--mosaic needs the neighbours of the run's own tiles: leave out files and --data")
    directory = RunDirectory.open(find_run(run))
    target = out or directory.path / "predictions"
    with directory.lock():
        if files:
            tiles, cache = load_images(files), target / "folds"
        elif data is not None:
            tiles, cache = load_survey(data).unlabelled, target / "folds"
        else:
            survey = own_survey(directory, None)
            tiles, cache = unlabelled_of(directory, survey), directory.unlabelled
        prediction = predict_tiles(directory, tiles, cache, device(), console.print)
        if mosaic:
            from semisalt.mosaics.apply import correction

            prediction = correction(directory, survey, device(), console.print)(prediction)
        write_maps(target, tiles.ids, prediction.probabilities, prediction.masks)
        picture = target / "overview.png"
        overview(directory, tiles, prediction.probabilities, prediction.masks, picture)
    console.print(f"{len(tiles)} tiles: {target}/probability, {target}/mask\npicture: {picture}")


def submit(
    run: RunArgument,
    data: MovedOption = None,
    mosaic: MosaicOption = False,
) -> None:
    """Write a checked submission.csv for all unlabelled tiles of the run's data.

    Example: [bold]semisalt submit cpu[/bold]
    """
    from semisalt.inference.outputs import own_survey
    from semisalt.inference.outputs import submit as write_submission
    from semisalt.run import RunDirectory, find_run

    directory = RunDirectory.open(find_run(run))
    with directory.lock():
        survey = own_survey(directory, data)
        correct = None
        if mosaic:
            from semisalt.mosaics.apply import correction

            correct = correction(directory, survey, device(), console.print)
        path = write_submission(directory, survey, device(), console.print, correct)
    console.print(f"submission: {path}")


def show(run: RunArgument) -> None:
    """Print a run's results.

    Example: [bold]semisalt show cpu[/bold]
    """
    from semisalt.report.tables import results_table
    from semisalt.run import RunDirectory, find_run

    console.print(results_table(RunDirectory.open(find_run(run))))
