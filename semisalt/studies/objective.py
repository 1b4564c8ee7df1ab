"""One trial of a study that trains: a run directory, scored on out-of-fold tiles at its own operating point."""

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.trial import Trial

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import NotFiniteError, UserError
from semisalt.inference.build import build_network, channels_of
from semisalt.recipe import build_config
from semisalt.run import RunDirectory
from semisalt.studies.choosing import epochs
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.request import StudyRequest
from semisalt.studies.space import Choice, apply, searched_values
from semisalt.training.job import run_training
from semisalt.training.log import read_metrics

# What is done with a finished trial's run, its searched values and its figures.
ReportTrial = Callable[[RunDirectory, Survey, Mapping[str, Choice], Mapping[str, float]], None]


class TimeIsUpError(Exception):
    """The study's time is over in the middle of a trial."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Trains trials.

    Attributes:
        directory, request: of the study.
        survey: the tiles.
        deadline: when to stop, as time.time() has it; None: never.
        report: what is done with a finished trial's run.
    """

    directory: StudyDirectory
    request: StudyRequest
    survey: Survey
    deadline: float | None
    report: ReportTrial

    def __call__(self, trial: Trial, note: Callable[..., None]) -> list[float]:
        """Train the trial, note what is known of it, and return the value of each objective.

        What it says goes into the run's training.log.

        Raises:
            TrialPruned: the trial is not worth more time.
            TimeIsUpError: the deadline has passed; the run has a checkpoint.
            NotFiniteError: it became NaN.
            UserError: the values do not go together, and whatever a training raises.
        """
        chosen = dict(searched_values(self.request.space, trial.params))
        config = build_config(apply(self.request.recipe, chosen), f"trial {trial.number}")
        path = self.directory.path / trial.user_attrs["run"]
        path.mkdir(parents=True, exist_ok=True)
        with (path / "training.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
            try:
                results = self._train(trial, path, config)
            except TrialPruned:
                note(seconds=seconds_of(RunDirectory(path), self.request))
                _discard_state(RunDirectory(path))
                raise
            except Exception as error:
                if not isinstance(error, UserError | TimeIsUpError):
                    traceback.print_exc(file=log)
                raise
            run = RunDirectory.open(path)
            known = facts(run, results, self.survey, self.request)
            note(**known)
            figures = {
                "score": known["score"]["value"],
                **{name: known[name] for name in ("at_half", "seconds", "parameters")},
            }
            self.report(run, self.survey, chosen, figures)
        return [float(figures[name]) for name in self.request.objectives]

    def _train(self, trial: Trial, path: Path, config: Config) -> dict[str, Any]:
        run = RunDirectory(path)
        # A trial that is tried again: a worker thought dead may be at it still.
        with run.lock(wait=print):
            resume = (path / "config.yaml").exists() and run.has_checkpoint()
        reports = _Reports(trial, self.request, run, config, self.deadline)
        if resume:
            reports.replay()
        folds = self.request.wanted_folds
        return run_training(path, self.survey, config, folds=folds, resume=resume, announce=print, watch=reports.watch)


class _Reports:
    """What a trial reports epoch by epoch: the mean over its finished folds' scores and the present fold's."""

    def __init__(
        self, trial: Trial, request: StudyRequest, run: RunDirectory, config: Config, deadline: float | None
    ) -> None:
        self.trial, self.run, self.config, self.deadline = trial, run, config, deadline
        self.folds, self.stride = request.wanted_folds, epochs(request)
        self.silent = len(request.objectives) > 1  # Optuna has no reports of several objectives
        self.reported: set[int] = set()

    def watch(self, fold: int, epoch: int, score: float) -> None:
        """See training.crossval.Watch."""
        self._report(fold, epoch, score)
        last = fold == self.folds[-1] and epoch + 1 == self.config.training.epochs
        if not last and not self.silent and self.trial.should_prune():
            raise TrialPruned(f"pruned: fold {fold}, epoch {epoch + 1}: score {score:.4f}")
        if not last and self.deadline is not None and time.time() > self.deadline:
            raise TimeIsUpError

    def replay(self) -> None:
        """Report what an earlier attempt has reached."""
        for fold in self.folds:
            if self.run.fold(fold).metrics.exists():
                for record in read_metrics(self.run.fold(fold).metrics):
                    if "score" in record:
                        self._report(fold, record["epoch"], record["score"])

    def _report(self, fold: int, epoch: int, score: float) -> None:
        position = self.folds.index(fold)
        step = position * self.stride + epoch + 1
        if self.silent or step in self.reported:
            return
        self.reported.add(step)
        before = [fold_score(self.run, other) for other in self.folds[:position]]
        self.trial.report((sum(before) + score) / (position + 1), step)


def fold_score(run: RunDirectory, fold: int) -> float:
    """A finished fold's score at 0.5, as its run combines snapshots."""
    return float(run.fold_result(fold)["precision_at_half"][run.config.snapshots.combine]["value"])


def facts(run: RunDirectory, results: Mapping[str, Any], survey: Survey, request: StudyRequest) -> dict[str, Any]:
    """What is known of a finished trial: its score (out of fold, at the inner optimum that other tiles chose), …"""
    network = build_network(run.config, channels_of(run.config, survey), weights="none")
    return {
        "score": dict(results["cross_fitted"]),
        "at_half": results["at_half"]["precision"]["value"],
        "operating": dict(results["operating"]),
        "folds": run.finished_folds(),
        "seconds": seconds_of(run, request),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def seconds_of(run: RunDirectory, request: StudyRequest) -> float:
    """Seconds of training so far, over all folds and attempts."""
    total = 0.0
    for fold in request.wanted_folds:
        folder = run.fold(fold)
        if folder.result.exists():
            total += run.fold_result(fold)["seconds"]
        elif folder.metrics.exists() and (records := read_metrics(folder.metrics)):
            total += records[-1]["seconds"]
    return round(total, 1)


def ending_of(error: Exception) -> tuple[str, str]:
    """How a trial that raised has ended, and the reason in words."""
    if isinstance(error, TrialPruned):
        return "pruned", str(error)
    if isinstance(error, NotFiniteError):
        return "nan", f"NaN: {error}"
    return "failed", f"failed: {error}" if isinstance(error, UserError) else f"failed: {type(error).__name__}: {error}"


def _discard_state(run: RunDirectory) -> None:
    """Remove what only a training that goes on would need: a study leaves many that do not."""
    for fold in range(run.config.data.folds):
        run.fold(fold).checkpoint.unlink(missing_ok=True)
        for snapshot in run.fold(fold).snapshots.glob("*.safetensors"):
            snapshot.unlink()
