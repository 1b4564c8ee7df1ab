"""What is known of a round when it is over: what was taken, how true it was, what it gained."""

import csv
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semisalt.data.rle import decode
from semisalt.data.tiles import Survey, TileSet
from semisalt.inference.evaluate import tile_scores
from semisalt.metrics import Interval, bootstrap, paired_bootstrap, precision
from semisalt.pseudo.guards import Guards, guards_of
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.labels import load_labels, verdicts_of
from semisalt.pseudo.selection import TAKEN
from semisalt.run import RunDirectory
from semisalt.training.crossval import Division


@dataclass(frozen=True)
class Taken:
    """A round's labels, all folds together.

    Attributes:
        candidates, empty, salt: tiles that could be taken, and those taken without and with salt.
        coverage, prior: mean share of salt of the taken tiles, and of the folds' labelled ones, as many empty ones of
            these left out as the quotas leave out (pseudo.empties).
        foreground, empty_share: share of salt and of empty tiles over all candidates that are not blank.
        known, truth: taken tiles whose truth is known but was not used, and the labels' mean precision on them.
    """

    candidates: int
    empty: int
    salt: int
    coverage: float
    prior: float
    foreground: float
    empty_share: float
    known: int
    truth: float | None


@dataclass(frozen=True)
class RoundFigures:
    """A round's line in the table.

    Attributes:
        round: 0 is the supervised baseline.
        run: its directory.
        taken: None in round 0.
        guards: what its own models see.
        score: mean precision at 0.5 over the out-of-fold tiles.
        minus_first, minus_before: paired differences to round 0 and to the round before; None in round 0.
        seconds: of labelling and training, all folds together.
        inflated: whether its out-of-fold score knows the validation tiles.
    """

    round: int
    run: str
    taken: Taken | None
    guards: Guards
    score: Interval
    minus_first: Interval | None
    minus_before: Interval | None
    seconds: float
    inflated: bool


def figures_of(
    number: int, runs: list[RunDirectory], survey: Survey, division: Division, bare: TileSet, folds: tuple[int, ...]
) -> RoundFigures:
    """A round's figures; `runs` holds the rounds 0 to `number`, `bare` the survey's unlabelled tiles."""
    run = runs[number]
    scores = [tile_scores(dict.fromkeys(folds, each), survey) for each in runs[: number + 1]]
    seconds = sum(float(run.fold_result(fold)["seconds"]) for fold in folds)
    if number:
        seconds += sum(label_directory(run, fold).provenance().figures["seconds"] for fold in folds)
    return RoundFigures(
        round=number,
        run=str(run.path),
        taken=_taken(number, runs, survey, division, bare, folds) if number else None,
        guards=guards_of(run, runs[number - 1] if number else None, survey.labelled, division, folds),
        score=bootstrap(scores[-1]),
        minus_first=paired_bootstrap(scores[-1], scores[0]) if number else None,
        minus_before=paired_bootstrap(scores[-1], scores[-2]) if number else None,
        seconds=round(seconds, 1),
        inflated=run.inflated is not None,
    )


def known_truth(survey: Survey, division: Division) -> dict[str, NDArray[np.uint8]]:
    """Masks of tiles whose labels no training uses, by id: those set aside by the label fraction, and truth.csv's.

    A synthetic survey keeps its unlabelled tiles' masks in truth.csv. They serve this report alone.
    """
    assert division.tiles.masks is not None  # noqa: S101  # the division holds labelled tiles
    aside = ~division.kept
    names = [tile for tile, out in zip(division.tiles.ids, aside, strict=True) if out]
    truth = dict(zip(names, division.tiles.masks[aside], strict=True))
    file = survey.source / "truth.csv"
    if file.is_file():
        bare = set(survey.unlabelled.ids)
        with file.open(encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["id"] in bare]
        truth |= {row["id"]: decode(row["rle_mask"], survey.labelled.shape) for row in rows}
    return truth


def _taken(
    number: int, runs: list[RunDirectory], survey: Survey, division: Division, bare: TileSet, folds: tuple[int, ...]
) -> Taken:
    truth = known_truth(survey, division)
    candidates = empty = salt = 0
    coverage, prior, foreground, empties, right = [], [], [], [], []
    for fold in folds:
        folder = label_directory(runs[number], fold)
        figures = folder.provenance().figures
        rows = verdicts_of(folder)
        shares = np.array([float(row["coverage"]) for row in rows if row["verdict"] == TAKEN])
        candidates += len(rows)
        empty += int((shares == 0).sum())
        salt += int((shares > 0).sum())
        coverage.append(shares)
        prior.append(figures.get("wanted_coverage", figures["prior_foreground"]))
        foreground.append(figures["foreground"])
        empties.append(figures["empty_share"])
        labels = load_labels(folder, division.candidates(fold, bare))
        assert labels.masks is not None  # noqa: S101  # pseudo-labels are labels
        known = [index for index, tile in enumerate(labels.ids) if tile in truth]
        if known:
            true = np.stack([truth[labels.ids[index]] for index in known])
            right.append(precision(labels.masks[known], true))
    return Taken(
        candidates=candidates,
        empty=empty,
        salt=salt,
        coverage=float(np.concatenate(coverage).mean()),
        prior=float(np.mean(prior)),
        foreground=float(np.mean(foreground)),
        empty_share=float(np.mean(empties)),
        known=sum(map(len, right)),
        truth=float(np.concatenate(right).mean()) if right else None,
    )
