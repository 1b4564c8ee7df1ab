"""Which pseudo-labelled tiles are taken: measures of a tile's confidence, the refusals, the quotas."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semisalt.config import PseudoConfig

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

TAKEN = "taken"
# Shares of salt that part the size classes; the first class holds the tiles without any.
CLASS_EDGES = (0.0, 0.05, 0.2, 0.4, 0.65)
# How far the mean coverage of the taken tiles may lie from the labelled prior, relative to it.
TOLERANCE = 0.1


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is known of N tiles before any is taken.

    Attributes:
        blank: bool [N], tiles without signal.
        decided, confidence, agreement, stability: [N] in 0 … 1; the last two NaN where they were not measured.
        area: salt pixels of the hard label, int64 [N].
        pixels: of a tile.
    """

    blank: NDArray[np.bool_]
    decided: Floats
    confidence: Floats
    agreement: Floats
    stability: Floats
    area: NDArray[np.int64]
    pixels: int

    @property
    def coverage(self) -> Floats:
        """Share of salt, [N]."""
        return self.area / float(self.pixels)


def decided_share(probabilities: Bytes, low: float, high: float) -> Floats:
    """Share of the pixels with p < `low` or p > `high`, [N], of probabilities uint8 [N, H, W] (p = value / 255).

    Source: the first place of the TGS challenge.
    """
    values = np.arange(256) / 255
    decided = (values < low) | (values > high)
    return np.asarray(decided[probabilities].mean(axis=(1, 2)), np.float64)


def mean_confidence(probabilities: Bytes) -> Floats:
    """Mean over the pixels of max(p, 1 − p), [N], of probabilities uint8 [N, H, W]."""
    values = np.arange(256) / 255
    return np.asarray(np.maximum(values, 1 - values)[probabilities].mean(axis=(1, 2)), np.float64)


def own_threshold(counts: NDArray[np.int64], prior: float, thresholds: tuple[float, ...]) -> float:
    """The threshold at which the share of salt comes nearest to `prior`; of equally near ones the middle.

    It needs no label but the prior, which comes from the fold's own training tiles: a threshold chosen by score would
    need tiles that the fold has not learned from, and its validation tiles are not for that.

    Args:
        counts: pixels of each stored probability 0, 1/255, … 1, [256].
        prior: share of salt over the labelled tiles.
        thresholds: to choose from, rising.
    """
    values = np.arange(256) / 255
    shares = np.array([counts[values > threshold].sum() / counts.sum() for threshold in thresholds])
    distance = np.abs(shares - prior)
    nearest = np.flatnonzero(np.isclose(distance, distance.min(), rtol=0, atol=1e-9))
    return thresholds[int(nearest[len(nearest) // 2])]


def size_classes(coverage: Floats) -> NDArray[np.int64]:
    """The size class of each tile, [N]: 0 without salt, then by CLASS_EDGES."""
    return np.searchsorted(CLASS_EDGES, coverage, side="left").astype(np.int64)


def refuse(tiles: Candidates, config: PseudoConfig) -> NDArray[np.str_]:
    """For each tile the first reason against taking it, [N]; '' where there is none.

    Raises ValueError where a cut asks for a measure that was not taken.
    """
    for name, cut in (("agreement", config.mirrored), ("stability", config.stability)):
        if cut and np.isnan(getattr(tiles, name)[~tiles.blank]).any():
            raise ValueError(f"{name} was not measured")
    rules = {
        "blank": tiles.blank,
        "undecided": tiles.decided < config.decided,
        "unsure": tiles.confidence < config.confidence,
        "unlike its mirror image": tiles.agreement < config.mirrored,
        "unstable": tiles.stability < config.stability,
        "tiny": (tiles.area > 0) & (tiles.area < config.min_area),
        "nearly full": tiles.coverage > config.max_coverage,
    }
    return np.asarray(np.select(list(rules.values()), list(rules), default=""), np.str_)


def quota(order: NDArray[np.int64], coverage: Floats, prior: Floats, limit: int | None) -> NDArray[np.int64]:
    """The tiles to take, so that their mean coverage stays at the labelled prior; positions [n], a part of `order`.

    The i-th best tile of a size class (from 0) comes at (i + 1/2) / q, where q is the class's share of the prior: every
    beginning of that sequence holds the classes as the prior does, to within a tile, until one of them is used up.
    The longest beginning whose mean coverage differs from the prior's by a tenth of it at most is taken.

    Args:
        order: positions of the tiles that may be taken, the best first.
        coverage: share of salt by the hard label, of all tiles.
        prior: [M], coverage of the labelled tiles.
        limit: at most so many tiles in all.
    """
    of_prior = np.bincount(size_classes(prior), minlength=len(CLASS_EDGES) + 1) / len(prior)
    classes = size_classes(coverage[order])
    place = np.full(len(order), np.inf)
    for at in np.flatnonzero(of_prior):
        mine = classes == at
        place[mine] = (np.arange(np.count_nonzero(mine)) + 0.5) / of_prior[at]
    # A class that no labelled tile has is never taken.
    sequence = order[np.argsort(place, kind="stable")[: np.isfinite(place).sum()]][:limit]
    means = np.cumsum(coverage[sequence]) / np.arange(1, len(sequence) + 1)
    fair = np.flatnonzero(np.abs(means - prior.mean()) <= TOLERANCE * prior.mean())
    return sequence[: fair[-1] + 1 if len(fair) else 0]


def thinned(prior: Floats, empties: float) -> Floats:
    """The prior's coverages with a share of its empty tiles alone, [M'].

    A missed body looks like a sure empty tile: fewer of these keep a round from unlearning what it missed.
    """
    empty = np.flatnonzero(prior == 0)
    return np.delete(prior, empty[round(empties * len(empty)) :])


def select(tiles: Candidates, prior: Floats, config: PseudoConfig) -> NDArray[np.str_]:
    """For each tile 'taken' or the reason against it, [N].

    Within a size class the tiles with the largest share of decided pixels come first (then those of higher confidence,
    then in their order).

    Args:
        tiles: N candidates.
        prior: [M], coverage of the labelled tiles that the fold learns from.
        config: the cuts.
    """
    prior = thinned(prior, config.empties)
    reasons = refuse(tiles, config).astype(object)
    free = reasons == ""
    order = np.lexsort((-tiles.confidence, -tiles.decided))
    order = order[free[order]]
    kept = quota(order, tiles.coverage, prior, config.limit) if config.quotas else order[: config.limit]
    reasons[free] = "over its quota" if config.quotas else "over the limit"
    reasons[kept] = TAKEN
    return np.asarray(reasons, np.str_)
