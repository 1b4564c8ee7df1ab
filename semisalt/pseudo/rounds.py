"""Pseudo-label rounds: each labels the unlabelled tiles with the round before, and learns from them."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

from semisalt.config import Config
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import NotFiniteError, RefusedError
from semisalt.files import write_json
from semisalt.inference.outputs import bare_tiles
from semisalt.processes import by_main, joined
from semisalt.pseudo.figures import RoundFigures, figures_of
from semisalt.pseudo.guards import refuse_collapsed_round
from semisalt.pseudo.labelling import Announce
from semisalt.pseudo.recipe import round_recipe
from semisalt.pseudo.request import Request, check_request, fixed, standing
from semisalt.pseudo.single import Round
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide
from semisalt.training.job import run_training
from semisalt.training.settle import settle


@dataclass(frozen=True)
class Outcome:
    """All rounds' figures, the best round, and why the last one was the last."""

    rounds: tuple[RoundFigures, ...]
    best: int
    ended: str


Report = Callable[[RunDirectory, TileSet], object]
Progress = Callable[[Path, Outcome], object]


def run_pseudo(
    request: Request,
    survey: Survey,
    config: Config,
    *,
    resume: bool,
    announce: Announce,
    report: Report,
    progress: Progress,
) -> Outcome:
    """Run the rounds, each from where it stands; returns their figures, which also lie in PATH/rounds.json.

    Args:
        request: what is asked for.
        survey: the tiles.
        config: the recipe of every round.
        resume: go on with rounds that were begun.
        announce: told what happens, a line at a time.
        report: called with each finished round's run and the labelled tiles.
        progress: called after each round with PATH and all figures so far.

    Raises:
        UserError: rounds are there already, or are not; they were made otherwise; see also label_fold and Trainer.fit.
    """
    accelerator = joined()
    main = accelerator.is_main_process
    with ExitStack() as held:
        by_main(accelerator, lambda: held.enter_context(RunDirectory(request.path).lock()))
        by_main(accelerator, lambda: check_request(request, survey, config, resume=resume))
        first = _first_round(request, survey, config, announce, report, accelerator)
        settled = _settled(config, request, first, survey, accelerator) if request.source else first.config
        recipe = round_recipe(settled, config)
        division, bare = divide(survey, recipe), bare_tiles(survey, recipe)
        runs, figures = [first], [figures_of(0, [first], survey, division, bare, request.folds)]
        # Rounds that stand are gone through again: they are told of no more, and end nothing.
        there, ended = standing(request.path), f"all {request.rounds} rounds were run"
        for number in range(1, request.rounds + 1):
            try:
                run = Round(number, runs[-1], request, survey, recipe, division, bare, accelerator, announce).finish()
                fresh = figures_of(number, [*runs, run], survey, division, bare, request.folds)
                refuse_collapsed_round(run, fresh.guards)
            except (RefusedError, NotFiniteError) as refusal:
                diverged = isinstance(refusal, NotFiniteError)
                # Of several processes one alone may have met what is not finite: it must not leave the others waiting.
                if number == 1 or (diverged and accelerator.num_processes > 1):
                    raise
                # What the rounds before it gained stands. Any other error is for the user to mend.
                ended = f"round {number} {'diverged' if diverged else 'was refused'}: {refusal}"
                break
            runs.append(run)
            figures.append(fresh)
            if main:
                _report(report, run, survey)
            if main and number >= there:
                _note(request, Outcome(tuple(figures), _best(figures), f"round {number} is over"), progress)
            gain = figures[-1].minus_before
            assert gain is not None  # noqa: S101  # every round but the first has one before it
            if request.early_stop and gain.low <= 0 and number >= there:
                ended = f"round {number} does not beat round {number - 1} within its interval ({gain.signed})"
                if number < request.rounds:
                    ended += "; --no-early-stop goes on"
                    break
        outcome = Outcome(tuple(figures), _best(figures), ended)
        if main:
            _note(request, outcome, progress)
        return outcome


def _best(figures: Sequence[RoundFigures]) -> int:
    return max(range(len(figures)), key=lambda number: figures[number].score.value)


def _note(request: Request, outcome: Outcome, progress: Progress) -> None:
    """After every round: a later one may be refused, and what was learned so far must not be lost with it."""
    write_json(request.path / "rounds.json", {**fixed(request), **asdict(outcome)})
    _link(request, outcome.best)
    progress(request.path, outcome)


def _link(request: Request, best: int) -> None:
    """PATH/best leads to the best round: what `predict` and `submit` are given."""
    fresh = request.path / ".best.tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(request.run(best).path, request.path), target_is_directory=True)
    fresh.replace(request.path / "best")


def _first_round(
    request: Request, survey: Survey, config: Config, announce: Announce, report: Report, accelerator: Accelerator
) -> RunDirectory:
    run = request.run(0)
    if request.source:
        return run
    begun = (run.path / "config.yaml").exists()
    if begun and set(request.folds) <= set(run.finished_folds()) and (run.path / "results.json").exists():
        RunDirectory.resume(run.path, config, survey.fingerprint)
    else:
        announce("round 0: the supervised baseline")
        going_on = begun and run.has_checkpoint()
        run_training(run.path, survey, config, folds=request.folds, resume=going_on, announce=announce)
    if accelerator.is_main_process:
        _report(report, run, survey)
    return run


def _report(report: Report, run: RunDirectory, survey: Survey) -> None:
    with run.lock():
        report(run, survey.labelled)


def _settled(config: Config, request: Request, first: RunDirectory, survey: Survey, accelerator: Accelerator) -> Config:
    """The recipe without `auto`."""
    begun = request.run(1)
    if config.training.precision == "auto":
        # The probe's choice must differ neither from round to round nor when the rounds go on.
        known = begun if (begun.path / "config.yaml").exists() else first
        if known.config.model == config.model:
            training = config.training.model_copy(update={"precision": known.config.training.precision})
            config = config.model_copy(update={"training": training})
    return settle(config, survey, accelerator.device).config
