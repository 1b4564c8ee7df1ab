"""semisalt baseline, teacher, cotrain: training a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from semisalt.cli.options import (
    ConfigOption,
    DataOption,
    FractionOption,
    LimitOption,
    RunOption,
    SetOption,
    a_run,
    console,
    fold_list,
    settings_of,
)
from semisalt.errors import UserError
from semisalt.processes import join, part, rank
from semisalt.recipe import load_config
from semisalt.run import RunDirectory, find_run

FoldsOption = Annotated[str | None, typer.Option("--folds", help="Which folds, for example 0,1; without it all.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a run that was begun.")]
FromOption = Annotated[
    RunDirectory | None,
    typer.Option(
        "--from",
        metavar="RUN",
        parser=a_run,
        help="A finished run of the same networks and folds, whose weights to begin with.",
    ),
]


def _command(name: str, method: str, help_text: str) -> Callable[..., None]:
    """The command that trains by `method`: all have the same options."""

    def command(
        config: ConfigOption = None,
        data: DataOption = None,
        run: RunOption = None,
        overrides: SetOption = None,
        folds: FoldsOption = None,
        label_fraction: FractionOption = None,
        unlabelled_limit: LimitOption = None,
        source: FromOption = None,
        resume: ResumeOption = False,
    ) -> None:
        settings = settings_of(overrides, label_fraction, unlabelled_limit)
        _train(method, run or _name(config, name, method), config, data, settings, folds, source, resume)

    command.__name__, command.__doc__ = name, help_text
    return command


def _name(config: Path | None, command: str, method: str) -> str:
    """What a run is called: its recipe, and the command where the recipe was written for another one."""
    if config is None:
        return command
    meant = load_config(config).method
    return config.stem if meant in ("supervised", method) else f"{config.stem}-{command}"


baseline = _command(
    "baseline",
    "supervised",
    """Train the supervised baseline: a U-Net a fold, scored on the fold's own held-out tiles.

    Example: [bold]semisalt baseline --config configs/cpu.yaml --data data/tgs --folds 0[/bold]
    """,
)
teacher = _command(
    "teacher",
    "mean_teacher",
    """Train by mean teacher: unlabelled tiles join in, and the network learns to agree with its own average on them.

    Example: [bold]semisalt teacher --config configs/teacher.yaml --data data/tgs --label-fraction 0.1 --folds 0[/bold]
    """,
)
cotrain = _command(
    "cotrain",
    "co_training",
    """Train by deep co-training: networks that agree on unlabelled tiles, and resist each other's adversarial examples.

    Example: [bold]semisalt cotrain --config configs/cotrain.yaml --data data/tgs --label-fraction 0.1 --folds 0[/bold]
    """,
)


def _train(
    method: str,
    name: str,
    config: Path | None,
    data: Path | None,
    settings: list[str],
    folds: str | None,
    source: RunDirectory | None,
    resume: bool,
) -> None:
    path = find_run(name)
    wanted = fold_list(folds)
    # A run that goes on has a recipe and data of its own; what is given is compared with them.
    begun = RunDirectory.open(path) if resume else None
    if begun and begun.config.method != method and "round" not in begun.provenance:
        own = begun.config.command
        raise UserError(f"{path} was begun by semisalt {own}; go on with: semisalt {own} --run {name} --resume")
    # The command is the method, whatever the recipe was written for.
    settings = [*settings, f"method={method}"]
    written = begun.path / "config.yaml" if begun and config is None else config
    recipe = load_config(written, settings)
    if config is not None and (meant := load_config(config)).method not in ("supervised", method):
        console.print(f"{config} is written for semisalt {meant.command}; this is semisalt {recipe.command}")
    if written is None and method != "supervised":
        console.print(
            f"without --config it is the baseline's long training, of {recipe.training.epochs} epochs; "
            f"for few labels, and measured: --config configs/{recipe.command}.yaml"
        )

    from semisalt.data.read import load_survey
    from semisalt.data.source import choose_source
    from semisalt.mosaics.groups import grouped, warn_of_crossings
    from semisalt.report.finish import report_run
    from semisalt.report.tables import results_table
    from semisalt.training.job import run_training

    # The first process makes or decodes the tiles, the others find them.
    with join().main_process_first():
        chosen, sentence = choose_source(data or (begun.source() if begun else None))
        survey = grouped(load_survey(chosen), recipe)
        console.print(sentence)
        warn_of_crossings(survey, recipe, console.print)
    run_training(path, survey, recipe, folds=wanted, resume=resume, announce=console.print, start=source)
    if rank() == 0:
        finished = RunDirectory.open(path)
        with finished.lock():
            picture = report_run(finished, survey.labelled)
        console.print(results_table(finished))
        console.print(f"pictures: {picture}\ncurves: tensorboard --logdir {path.parent}")
    part()
