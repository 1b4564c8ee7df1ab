"""Runs on the same out-of-fold tiles, side by side: scores, and paired differences to the first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.inference.evaluate import Point, tile_scores
from semisalt.metrics import Interval, bootstrap, paired_bootstrap
from semisalt.recipe import differences
from semisalt.run import RunDirectory, read_csv

Scores = NDArray[np.float64]
# Keys in which the parts of one run may differ: where it was trained, and each fold's own weights to begin with.
_MAY_DIFFER = (
    "data.workers",
    "inference.batch",
    "model.weights",
    "training.checkpoint_minutes",
    "training.compile",
    "training.precision",
    "unlabelled.least_salt",
)
# What other methods read alone: what stands there changed nothing.
_UNREAD = {
    "supervised": ("teacher.", "co_training.", "unlabelled."),
    "mean_teacher": ("co_training.",),
    "co_training": ("teacher.", "unlabelled.strong.", "unlabelled.cutmix"),
}
_METHODS = {"supervised": "supervised", "mean_teacher": "mean teacher", "co_training": "deep co-training"}


@dataclass(frozen=True)
class Subject:
    """What is compared: a run, or several of one recipe whose folds were trained apart.

    Attributes:
        name: as it stands in the table.
        runs: their directories, at least one.
    """

    name: str
    runs: tuple[RunDirectory, ...]

    def run_of(self, fold: int) -> RunDirectory | None:
        """The first of its runs that has finished the fold."""
        return next((run for run in self.runs if fold in run.finished_folds()), None)

    def finished_folds(self) -> set[int]:
        """The folds that its runs have finished, together."""
        return {fold for run in self.runs for fold in run.finished_folds()}


@dataclass(frozen=True)
class Row:
    """A subject's line.

    Attributes:
        name: of the subject.
        method: how it learned.
        labels: tiles whose labels it may learn from, the mean over the folds.
        steps: optimiser steps a fold, those of the runs that it builds on first: (1040, 1040). The mean over the folds;
            NaN first where it builds on a run that is gone, or not known to be the same one, or unfinished.
        seconds: of its own training, all folds together.
        score: mean precision over the tiles.
        difference: minus the first subject, paired over tiles; None for the first.
        inflated: whether its scores know the tiles that they are made on.
        chosen: whether the validation score had a say in its weights, which flatters a little.
    """

    name: str
    method: str
    labels: float
    steps: tuple[float, ...]
    seconds: float
    score: Interval
    difference: Interval | None
    inflated: bool
    chosen: bool


@dataclass(frozen=True)
class Comparison:
    """Rows over the tiles of `folds`, `tiles` in number, scored at `point`."""

    folds: tuple[int, ...]
    tiles: int
    rows: tuple[Row, ...]
    point: Point = "half"


def compare(
    subjects: Sequence[Subject], survey: Survey, folds: Sequence[int] | None = None, point: Point = "half"
) -> Comparison:
    """Score each subject on the same tiles, each fold's by models that never saw them, and pair it with the first.

    Args:
        subjects: at least two.
        survey: the tiles that all of them were made from.
        folds: which folds' tiles; None: those that all subjects have finished.
        point: at half nothing is chosen on any tile; cross-fitted, a network that is too careful or too bold at 0.5 is
            not held against one that is not.

    Raises:
        UserError: other data or other validation tiles, folds that a subject has not finished, runs that are not
            parts of one, or two subjects of one name; they are named.
    """
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two of the runs are called {name}: name them apart by NAME=RUN")
    for subject in subjects:
        _check_parts(subject)
    chosen = _folds(subjects, folds)
    _check_tiles(subjects, survey, chosen)
    scores = [_scores(subject, survey, chosen, point) for subject in subjects]
    rows = tuple(
        _row(subject, chosen, mine, scores[0] if index else None)
        for index, (subject, mine) in enumerate(zip(subjects, scores, strict=True))
    )
    return Comparison(chosen, len(scores[0]), rows, point)


def _check_parts(subject: Subject) -> None:
    """Refuse runs under one name that learned otherwise, or that have a fold in common."""
    first, held = subject.runs[0], dict[int, RunDirectory]()
    for run in subject.runs:
        ways = [line.partition(":")[0] for line in differences(run.config, first.config)]
        ways = [key for key in ways if key not in _MAY_DIFFER and not key.startswith(_unread(run))]
        # How often a training is looked at matters where the looks decide something.
        if not run.config.chosen_by_score and not first.config.chosen_by_score:
            ways = [key for key in ways if key != "training.validate_every"]
        if run.provenance.get("round") != first.provenance.get("round"):
            ways.insert(0, "round")
        if (run.source_run is None) != (first.source_run is None):
            ways.insert(0, "weights to begin with")
        if ways:
            raise UserError(
                f"{subject.name}: {first.path} and {run.path} did not learn alike (other {', '.join(ways)}); compare "
                "them by a space"
            )
        for fold in run.finished_folds():
            other = held.setdefault(fold, run)
            if other is not run:
                raise UserError(f"{subject.name}: fold {fold} is finished in {other.path} and in {run.path}: name one")


def _folds(subjects: Sequence[Subject], wanted: Sequence[int] | None) -> tuple[int, ...]:
    finished = {subject.name: subject.finished_folds() for subject in subjects}
    if wanted is None:
        common = set.intersection(*finished.values())
        if not common:
            held = "; ".join(f"{name}: {_listed(folds)}" for name, folds in finished.items())
            raise UserError(f"no fold is finished by all of them, so that no tile can be compared ({held})")
        return tuple(sorted(common))
    division = subjects[0].runs[0].config.data.folds
    if not set(wanted) <= set(range(division)):
        raise UserError(f"--folds {_listed(set(wanted))}: the folds are 0 to {division - 1}")
    for name, folds in finished.items():
        missing = set(wanted) - folds
        if missing:
            raise UserError(f"{name}: fold {_listed(missing)} not finished; go on with it by --resume, or leave it out")
    return tuple(sorted(set(wanted)))


def _listed(folds: set[int]) -> str:
    return ", ".join(map(str, sorted(folds))) or "none"


def _check_tiles(subjects: Sequence[Subject], survey: Survey, folds: Sequence[int]) -> None:
    """Refuse runs of other data, or whose folds hold other tiles than the first's."""
    for fold in folds:
        first = _run_of(subjects[0], fold)
        for subject in subjects:
            run = _run_of(subject, fold)
            if run.provenance["data"] != survey.fingerprint:
                raise UserError(
                    f"{run.path} was made from other data (fingerprint {run.provenance['data']}, here "
                    f"{survey.fingerprint}): its scores cannot be paired"
                )
            other = _validation(first, fold) ^ _validation(run, fold)
            if other:
                raise UserError(
                    f"{run.path}: fold {fold} does not hold the same validation tiles as that of {first.path} "
                    f"({len(other)} are in one of them only, for example {min(other)}): their scores cannot be paired; "
                    "the same seed, data.folds and data.groups divide alike"
                )


def _validation(run: RunDirectory, fold: int) -> set[str]:
    return {row["id"] for row in read_csv(run.path / "folds.csv") if row["fold"] == str(fold)}


def _run_of(subject: Subject, fold: int) -> RunDirectory:
    run = subject.run_of(fold)
    assert run is not None  # noqa: S101  # the folds are those that every subject has finished
    return run


def _scores(subject: Subject, survey: Survey, folds: Sequence[int], point: Point) -> Scores:
    return tile_scores({fold: _run_of(subject, fold) for fold in folds}, survey, point)


def _row(subject: Subject, folds: Sequence[int], scores: Scores, first: Scores | None) -> Row:
    runs = [_run_of(subject, fold) for fold in folds]
    return Row(
        name=subject.name,
        method=_method(runs[0]),
        labels=float(np.mean([_labels(run, fold) for run, fold in zip(runs, folds, strict=True)])),
        steps=_steps(runs, folds),
        seconds=sum(float(run.fold_result(fold)["seconds"]) for run, fold in zip(runs, folds, strict=True)),
        score=bootstrap(scores),
        difference=None if first is None else paired_bootstrap(scores, first),
        inflated=any(run.inflated for run in runs),
        chosen=any(run.config.chosen_by_score for run in runs),
    )


def _method(run: RunDirectory) -> str:
    number = run.provenance.get("round")
    return _METHODS[run.config.method] if number is None else f"pseudo-labels, round {number}"


def _labels(run: RunDirectory, fold: int) -> int:
    rows = read_csv(run.path / "folds.csv")
    return sum(row["label_used"] == "1" and row["fold"] != str(fold) for row in rows)


def _unread(run: RunDirectory) -> tuple[str, ...]:
    """What keys that changed nothing in a run begin with."""
    if "round" in run.provenance:
        return _UNREAD["supervised"]
    unlabelled = ("data.unlabelled_limit",) if run.config.method == "supervised" else ()
    return (*_UNREAD[run.config.method], "pseudo.", *unlabelled)


def _steps(runs: Sequence[RunDirectory], folds: Sequence[int]) -> tuple[float, ...]:
    """Optimiser steps of the runs that these build on, the oldest first, and their own; means over the folds."""
    means: list[float] = []
    current, known = list(runs), set[Path]()
    while True:
        means.append(float(np.mean([run.fold_result(fold)["steps"] for run, fold in zip(current, folds, strict=True)])))
        if all(run.source_run is None for run in current):
            return tuple(reversed(means))
        known |= {run.path.resolve() for run in current}
        before = zip([run.builds_on for run in current], folds, strict=True)
        current = [run for run, fold in before if run is not None and run.fold(fold).result.exists()]
        if len(current) < len(folds) or any(run.path.resolve() in known for run in current):
            return (math.nan, *reversed(means))
