"""The command line: parse, call one function, print."""

import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from semisalt.errors import UserError
from semisalt.memory import keep_freed_memory

if TYPE_CHECKING:  # the help texts must not wait for torch
    import torch

app = typer.Typer(
    help="Segment salt in seismic tiles from few labels and many bare tiles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
data_app = typer.Typer(help="Check, make or download tiles.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_console = Console(soft_wrap=True, highlight=False)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A recipe in YAML; without one, the defaults.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the configuration; repeatable."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A folder or zip of tiles; without it data/tgs, else the synthetic survey."),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A name under runs/, or a run's path.")]


def main() -> None:
    """Run the command line; a mistake that the user can mend ends with its message and exit code 2."""
    # In a process started by torchrun every rank but the first keeps silent.
    if _rank() > 0:
        _console.quiet = True
    warnings.showwarning = lambda message, *_rest, **_named: print(f"warning: {message}", file=sys.stderr)
    keep_freed_memory()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@data_app.command("check")
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

    description = describe(load_survey(path))
    if as_json:
        print(json.dumps(asdict(description), indent=2))
    else:
        _console.print(description_tables(description))


@data_app.command("synth")
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
    share = labelled if labelled < 1 else int(labelled)
    write_survey(out, tiles=tiles, labelled=share, seed=seed, shape=(int(height), int(width)))
    _console.print(f"{tiles} tiles in {out}; look at them with: semisalt data check {out}")


@data_app.command("fetch")
def data_fetch(
    out: Annotated[Path, typer.Argument(help="A new folder.")] = Path("data/tgs"),
) -> None:
    """Download the TGS Salt Identification Challenge's tiles (needs a Kaggle login and semisalt[kaggle]).

    Example: [bold]semisalt data fetch[/bold]
    """
    from semisalt.data.fetch import fetch

    _console.print(f"tiles in {fetch(out)}; look at them with: semisalt data check {out}")


@app.command()
def baseline(
    config: ConfigOption = None,
    data: DataOption = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Name under runs/, or a path; without it the recipe's name.")
    ] = None,
    overrides: SetOption = None,
    folds: Annotated[str | None, typer.Option("--folds", help="Which folds, for example 0,1; all without.")] = None,
    label_fraction: Annotated[
        float | None, typer.Option("--label-fraction", help="Share of the labels that training may use.")
    ] = None,
    unlabelled_limit: Annotated[
        int | None, typer.Option("--unlabelled-limit", help="Work with so many unlabelled tiles only.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was begun.")] = False,
) -> None:
    """Train the supervised baseline: a U-Net a fold, scored on the fold's own held-out tiles.

    Example: [bold]semisalt baseline --config configs/cpu.yaml --data data/tgs --folds 0[/bold]
    """
    from accelerate import PartialState

    from semisalt.config import load_config
    from semisalt.data.read import load_survey
    from semisalt.data.source import choose_source
    from semisalt.report.finish import report_run
    from semisalt.report.tables import results_table
    from semisalt.run import RunDirectory, find_run
    from semisalt.training.baseline import run_baseline

    settings = list(overrides or [])
    if label_fraction is not None:
        settings.append(f"data.label_fraction={label_fraction}")
    if unlabelled_limit is not None:
        settings.append(f"data.unlabelled_limit={unlabelled_limit}")
    path = find_run(run or (config.stem if config else "baseline"))
    wanted = _fold_list(folds)
    # A run that goes on has a recipe and data of its own; what is given is compared with them.
    begun = RunDirectory.open(path) if resume else None
    recipe = load_config(begun.path / "config.yaml" if begun and config is None else config, settings)
    # The first process makes or decodes the tiles, the others find them.
    with PartialState().main_process_first():
        source, sentence = choose_source(data or (begun.source() if begun else None))
        survey = load_survey(source)
    _console.print(sentence)
    run_baseline(path, survey, recipe, folds=wanted, resume=resume, announce=_console.print)
    if _rank() == 0:
        finished = RunDirectory.open(path)
        with finished.lock():
            picture = report_run(finished, survey.labelled)
        _console.print(results_table(finished))
        _console.print(f"pictures: {picture}\ncurves: tensorboard --logdir {path.parent}")


@app.command()
def predict(
    run: RunArgument,
    files: Annotated[list[Path] | None, typer.Argument(help="PNG tiles; without any, a data set.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder or zip of tiles; without it the run's own data.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder; needed with files or --data, else RUN/predictions.")
    ] = None,
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
    directory = RunDirectory.open(find_run(run))
    target = out or directory.path / "predictions"
    with directory.lock():
        if files:
            tiles, cache = load_images(files), target / "folds"
        elif data is not None:
            tiles, cache = load_survey(data).unlabelled, target / "folds"
        else:
            tiles, cache = unlabelled_of(directory, own_survey(directory, None)), directory.unlabelled
        prediction = predict_tiles(directory, tiles, cache, _device(), _console.print)
        write_maps(target, tiles.ids, prediction.probabilities, prediction.masks)
        picture = target / "overview.png"
        overview(directory, tiles, prediction.probabilities, prediction.masks, picture)
    _console.print(f"{len(tiles)} tiles: {target}/probability, {target}/mask\npicture: {picture}")


@app.command()
def submit(
    run: RunArgument,
    data: Annotated[Path | None, typer.Option("--data", help="Where the run's data lies now, if it moved.")] = None,
) -> None:
    """Write a checked submission.csv for all unlabelled tiles of the run's data.

    Example: [bold]semisalt submit cpu[/bold]
    """
    from semisalt.inference.outputs import own_survey
    from semisalt.inference.outputs import submit as write_submission
    from semisalt.run import RunDirectory, find_run

    directory = RunDirectory.open(find_run(run))
    with directory.lock():
        path = write_submission(directory, own_survey(directory, data), _device(), _console.print)
    _console.print(f"submission: {path}")


@app.command()
def show(run: RunArgument) -> None:
    """Print a run's results.

    Example: [bold]semisalt show cpu[/bold]
    """
    from semisalt.report.tables import results_table
    from semisalt.run import RunDirectory, find_run

    _console.print(results_table(RunDirectory.open(find_run(run))))


@app.command()
def doctor(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Print what this machine offers and what a run would choose on it.

    Example: [bold]semisalt doctor --config configs/gpu.yaml[/bold]
    """
    from semisalt.config import load_config
    from semisalt.doctor import diagnose, diagnosis_table

    _console.print(diagnosis_table(diagnose(load_config(config, overrides or []))))


@app.command()
def bench(
    config: ConfigOption = None,
    overrides: SetOption = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 60.0,
) -> None:
    """Measure a recipe's speed: training, inference, loader, and the share of the machine's matmul peak.

    Example: [bold]semisalt bench --config configs/seed.yaml --seconds 180[/bold]
    """
    from semisalt.bench import bench as measure
    from semisalt.bench import bench_table
    from semisalt.config import load_config

    report = measure(load_config(config, overrides or []), device=_device(), seconds=seconds, announce=_console.print)
    _console.print(bench_table(report))


def _fold_list(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UserError(f"--folds {text}: expected numbers separated by commas, for example 0,1")
    return [int(part) for part in parts]


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _device() -> "torch.device":
    from accelerate import PartialState

    device: torch.device = PartialState().device
    return device
