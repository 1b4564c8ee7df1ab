"""semisalt pseudo …: rounds of pseudo-labels, and a look at what they took."""

from pathlib import Path
from typing import Annotated

import typer

from semisalt.cli.options import (
    ConfigOption,
    DataOption,
    FractionOption,
    LimitOption,
    MovedOption,
    RunOption,
    SetOption,
    a_run,
    console,
    fold_list,
    settings_of,
)
from semisalt.errors import UserError
from semisalt.processes import join, part, rank
from semisalt.run import RunDirectory, find_run

app = typer.Typer(invoke_without_command=True)


@app.callback()
def pseudo(
    context: typer.Context,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            metavar="N",
            min=1,
            help="Rounds after the baseline; without it 3, or as many as were asked for before --resume.",
        ),
    ] = None,
    source: Annotated[
        RunDirectory | None,
        typer.Option(
            "--from",
            metavar="RUN",
            parser=a_run,
            help="A finished run that is round 0; without it round 0 is trained.",
        ),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds", help="Which folds, for example 0,1; without it all, or those that --from has finished."
        ),
    ] = None,
    label_fraction: FractionOption = None,
    unlabelled_limit: LimitOption = None,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Labels by all folds together: for a submission, the score is inflated.")
    ] = False,
    to_the_end: Annotated[
        bool,
        typer.Option(
            "--no-early-stop", help="Go on after a round that does not beat the one before; --resume keeps to it."
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with rounds that were begun.")] = False,
) -> None:
    """Train rounds of pseudo-labels: each labels the unlabelled tiles with the round before, and learns from them.

    Example: [bold]semisalt pseudo --rounds 3 --config configs/pseudo_cpu.yaml --data data/tgs --folds 0,1[/bold]
    """
    if context.invoked_subcommand is not None:
        return
    from semisalt.data.read import load_survey
    from semisalt.data.source import choose_source
    from semisalt.mosaics.groups import grouped
    from semisalt.pseudo.request import understand
    from semisalt.pseudo.rounds import run_pseudo
    from semisalt.report.finish import report_run
    from semisalt.report.rounds import rounds_table
    from semisalt.report.rounds_board import log_rounds

    path = find_run(run or (config.stem if config else "pseudo"))
    request, recipe, own = understand(
        path,
        source.path if source else None,
        config,
        settings_of(overrides, label_fraction, unlabelled_limit),
        rounds=rounds,
        folds=fold_list(folds),
        pooled=pooled,
        early_stop=False if to_the_end else None,
        resume=resume,
    )
    with join().main_process_first():
        chosen, sentence = choose_source(data or (own.source() if own else None))
        survey = grouped(load_survey(chosen), recipe)
    console.print(sentence)
    outcome = run_pseudo(
        request, survey, recipe, resume=resume, announce=console.print, report=report_run, progress=log_rounds
    )
    if rank() == 0:
        console.print(rounds_table(outcome))
        console.print(f"curves: tensorboard --logdir {path}")
    part()


@app.command()
def inspect(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", parser=find_run, help="What holds round1 and so on: a name or a path.")
    ],
    number: Annotated[int, typer.Option("--round", min=1, help="Which round's labels.")] = 1,
    fold: Annotated[int | None, typer.Option("--fold", min=0, help="Which fold; without it all of the round.")] = None,
    data: MovedOption = None,
) -> None:
    """Show what a round took and what it refused, by confidence: counts here, tiles in a picture for each fold.

    Example: [bold]semisalt pseudo inspect pseudo_cpu --round 1 --fold 0[/bold]
    """
    if not (run / f"round{number}" / "config.yaml").exists():
        there = ", ".join(sorted(found.parent.name for found in run.glob("round[1-9]*/config.yaml")))
        none = "it has no rounds, semisalt pseudo makes them" if run.exists() else "it does not exist"
        raise UserError(f"{run} holds no round {number}: {f'there are {there}' if there else none}")

    from semisalt.inference.outputs import own_survey
    from semisalt.mosaics.groups import grouped
    from semisalt.pseudo.labelling import label_directory
    from semisalt.pseudo.labels import verdicts_of
    from semisalt.report.gallery import verdict_table, write_gallery

    directory = RunDirectory.open(run / f"round{number}")
    known = [at for at in range(directory.config.data.folds) if label_directory(directory, at).complete()]
    wanted = known if fold is None else [fold]
    if not known or fold not in (None, *known):
        named = f"labels are there for fold {', '.join(map(str, known))}" if known else "no fold has labels yet"
        raise UserError(f"{directory.path}: {named}; go on with {directory.going_on}")
    survey = grouped(own_survey(directory, data), directory.config)
    pictures = [write_gallery(directory, at, survey) for at in wanted]
    console.print(verdict_table({at: verdicts_of(label_directory(directory, at)) for at in wanted}))
    for picture in pictures:
        console.print(f"picture: {picture}")
