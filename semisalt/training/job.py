"""A training as one job: settle, train the folds, evaluate."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.inference.build import build_network, channels_of
from semisalt.inference.evaluate import evaluate
from semisalt.inference.outputs import bare_tiles
from semisalt.methods.build import build_method
from semisalt.processes import joined
from semisalt.provenance import collect_provenance
from semisalt.run import RunDirectory
from semisalt.training.crossval import Division, LessonOf, Watch, divide, train_folds
from semisalt.training.lesson import Lesson
from semisalt.training.settle import settle
from semisalt.training.source import check_start, check_weights, start_weights


def run_training(
    path: Path,
    survey: Survey,
    config: Config | None,
    *,
    folds: Sequence[int] | None,
    resume: bool,
    announce: Callable[[str], None],
    start: RunDirectory | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train by the configured method in the run directory `path`; returns the content of results.json.

    Args:
        path: the run directory; new, or with `resume` one that was begun.
        survey: the tiles.
        config: the recipe; None, with `resume`: the run's own.
        folds: which folds to train; None: all.
        resume: go on with a run that was begun.
        announce: told what was chosen, a line at a time.
        start: a finished run whose weights each fold begins with; None: pretrained or random ones.
        watch: told of each validated epoch.

    Raises:
        UserError: a method that needs unlabelled tiles has none; see also check_start, check_weights,
            RunDirectory.create and .resume, settle, and Trainer.fit.
    """
    accelerator = joined()
    # Checked before anything is written.
    planned = RunDirectory.open(path).config if resume else config or Config()
    wanted = list(range(planned.data.folds)) if folds is None else list(folds)
    if not set(wanted) <= set(range(planned.data.folds)):
        raise UserError(f"--folds {', '.join(map(str, wanted))}: the folds are 0 to {planned.data.folds - 1}")
    with RunDirectory(path).lock() if accelerator.is_main_process else nullcontext():
        if resume:
            run = RunDirectory.resume(path, config, survey.fingerprint)
            if accelerator.is_main_process:
                _limit(run, planned if config is None else config, announce)
            accelerator.wait_for_everyone()
            _refuse_other_start(run, start)
            # Folds that were begun have their weights; others begin with those of a run that may have changed since.
            unbegun = [fold for fold in wanted if not run.fold(fold).begun]
            if run.start and unbegun:
                check_start(run.start, survey, run.config, unbegun)
            elif unbegun:
                check_weights(survey, run.config, unbegun)
        else:
            if start:
                check_start(start, survey, planned, wanted)
            else:
                check_weights(survey, planned, wanted)
            run = _begin(path, survey, planned, start, accelerator, announce)
        train_folds(run, survey, wanted, build_method, accelerator, lessons(survey, run.config, run), watch)
        return evaluate(run, survey.labelled) if accelerator.is_main_process else {}


def _begin(
    path: Path,
    survey: Survey,
    config: Config,
    start: RunDirectory | None,
    accelerator: Accelerator,
    announce: Callable[[str], None],
) -> RunDirectory:
    """Create the run on rank 0; the other processes read what it settled."""
    if accelerator.is_main_process:
        # What cannot work is found before anything is written, and before the probe takes its time.
        division, lesson_of = divide(survey, config), lessons(survey, config)
        for fold in range(config.data.folds):
            real = len(division.train(fold))
            lesson_of(fold, division).plan(real, config, world=accelerator.num_processes)
        build_network(config, channels_of(config, survey), weights="none" if start else None)
        settled = settle(config, survey, accelerator.device)
        for reason in settled.reasons:
            announce(reason)
        provenance = collect_provenance(survey.fingerprint, survey.source, config.seed, accelerator.device)
        provenance["channels"] = asdict(channels_of(settled.config, survey))
        if start:
            provenance["start"] = str(start.path.resolve())
        RunDirectory.create(path, settled.config, provenance)
    accelerator.wait_for_everyone()
    return RunDirectory.open(path)


def _limit(run: RunDirectory, config: Config, announce: Callable[[str], None]) -> None:
    before, now = run.config.unlabelled.least_salt, config.unlabelled.least_salt
    if now != before:
        announce(f"unlabelled.least_salt: {now} from now on, {before} before")
        run.limit(now)


def _refuse_other_start(run: RunDirectory, start: RunDirectory | None) -> None:
    if start and (run.start is None or start.path.resolve() != run.start.path):
        raise UserError(
            f"{run.path} cannot be resumed, it began with {run.start.path if run.start else 'no weights of a run'}: "
            f"leave out --from {start.path}, or choose another --run"
        )


def lessons(survey: Survey, config: Config, run: RunDirectory | None = None) -> LessonOf:
    """What each fold learns from beside its labels, for a method that can: unlabelled tiles; and, of a run that was
    created, where it begins.
    """
    bare = None if config.method == "supervised" else bare_tiles(survey, config)

    def lesson(fold: int, division: Division) -> Lesson:
        start = run.start if run and not run.fold(fold).begun else None
        return Lesson(
            weights=start_weights(start, fold) if start else None,
            bare=None if bare is None else division.without_labels(fold, bare),
        )

    return lesson
