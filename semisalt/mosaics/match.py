"""Finding neighbours among tiles: candidates by their borders, then mutual choice, rivals and squares."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from semisalt.mosaics.borders import SMALLEST, Array
from semisalt.mosaics.calibrate import features, log_odds
from semisalt.mosaics.candidates import Candidates, margins, square_support, with_margins
from semisalt.mosaics.corners import with_corners
from semisalt.mosaics.evidence import Evidence, Ints, read_edges
from semisalt.mosaics.grid import Direction, Pairs, join_pairs, no_pairs

REACH = 15.0  # candidates lie this far below the best one at most
MOST = 4  # candidates of a tile on one side
SURE = 15.0  # margin of mutual pairs from which more is learned
ACCEPTED = 0.5  # least probability of a pair; the lowest of those tried with no more than one false pair in a thousand
ROUNDS = 2  # of support by squares
CORNERS = 2  # rounds of candidates that corners add


@dataclass(frozen=True, eq=False)
class Matches:
    """What was found: the accepted pairs, and how well any two tiles would adjoin.

    `right` and `below` are None where there was nothing to match.
    """

    pairs: Pairs
    right: Evidence | None
    below: Evidence | None

    def fit(self, first: Ints, second: Ints, below: NDArray[np.bool_]) -> Array:
        """[P]: log likelihood ratios of any pairs of tiles; 0 where a border is quiet."""
        return self._ask(Evidence.of, 0.0, first, second, below)

    def distance(self, first: Ints, second: Ints, below: NDArray[np.bool_]) -> Array:
        """[P]: distances of any pairs of tiles (see `Pairs`); NaN where a border is quiet."""
        return self._ask(Evidence.distance, np.nan, first, second, below)

    def _ask(
        self,
        measure: Callable[[Evidence, Ints, Ints], Array],
        quiet: float,
        first: Ints,
        second: Ints,
        below: NDArray[np.bool_],
    ) -> Array:
        values = np.full(len(first), quiet, np.float32)
        for evidence, which in ((self.right, ~below), (self.below, below)):
            if evidence is None:
                continue
            edges = evidence.edges
            asked = np.flatnonzero(which)
            asked = asked[edges.usable_before[first[asked]] & edges.usable_after[second[asked]]]
            values[asked] = measure(evidence, first[asked], second[asked])
        return values


def find(images: NDArray[np.uint8]) -> Matches:
    """The neighbours among tiles.

    Blank tiles, and all but the first of exact copies, are left out. A pair is accepted where it is strictly mutual
    (each is the other's best candidate) and its probability, given its fit, its margin over rivals and the support
    of squares, is at least `ACCEPTED`.

    Args:
        images: [N, H, W], grey; each may have a stretch (gain and offset) of its own.

    Raises:
        ValueError: tiles are smaller than 8 pixels a side.
    """
    if min(images.shape[1:]) < SMALLEST:
        raise ValueError(f"tiles of {images.shape[1:]} pixels; matching needs {SMALLEST} a side or more")
    usable = distinct(images)
    if usable.sum() < 2:
        return Matches(no_pairs(), None, None)
    evidence, found, odds = settled(images, usable)
    parts = zip(evidence, found, odds, (False, True), strict=True)
    return Matches(join_pairs([accepted(*part) for part in parts]), *evidence)


DIRECTIONS: tuple[Direction, Direction] = ("right", "below")


def distinct(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[N]: true for tiles that have a signal and are no copy of an earlier one."""
    flat = images.reshape(len(images), images.shape[1] * images.shape[2])
    seen: set[bytes] = set()
    usable = np.zeros(len(images), np.bool_)
    for tile, pixels in enumerate(flat):
        content = pixels.tobytes()
        usable[tile] = pixels.min() < pixels.max() and content not in seen
        seen.add(content)
    return usable


def candidates(
    images: NDArray[np.uint8], direction: Direction, usable: NDArray[np.bool_]
) -> tuple[Evidence, Candidates, Evidence]:
    """One direction's candidates, by models that have learned from the surest of them; and one model for all tiles."""
    edges = read_edges(images, direction, usable)
    nothing = np.empty(0, np.int64)
    found = _look(Evidence(edges.pooled(), nothing, nothing), 2)
    sure = found.margin > SURE
    found = _look(Evidence(edges, found.first[sure], found.second[sure]), MOST)
    sure = found.margin > SURE
    first, second = found.first[sure], found.second[sure]
    evidence, common = Evidence(edges, first, second), Evidence(edges.pooled(), first, second)
    return evidence, _weighed(evidence, found.first, found.second), common


def _look(evidence: Evidence, most: int) -> Candidates:
    return _weighed(evidence, *evidence.search(REACH, most))


def _weighed(evidence: Evidence, first: Ints, second: Ints) -> Candidates:
    return with_margins(first, second, evidence.of(first, second), evidence.information(first, second))


def settled(
    images: NDArray[np.uint8], usable: NDArray[np.bool_]
) -> tuple[tuple[Evidence, Evidence], tuple[Candidates, Candidates], tuple[Array, Array]]:
    """Evidence, candidates and their log odds, right and below; corners of what is probable add candidates."""
    right, below = (candidates(images, direction, usable) for direction in DIRECTIONS)
    evidence, found, screen = (right[0], below[0]), (right[1], below[1]), (right[2], below[2])
    odds = settle(*found)
    for _ in range(CORNERS):
        found = with_corners(found, (probable(found[0], odds[0]), probable(found[1], odds[1])), evidence, screen)
        odds = settle(*found)
    return evidence, found, odds


def settle(right: Candidates, below: Candidates) -> tuple[Array, Array]:
    """Log odds of both directions' candidates: each alone, then with the support of squares."""
    odds = tuple(log_odds(features(part)) for part in (right, below))
    for _ in range(ROUNDS):
        support = square_support(right, below, (odds[0], odds[1]))
        odds = tuple(log_odds(features(part, given)) for part, given in zip((right, below), support, strict=True))
    return odds[0], odds[1]


def probable(found: Candidates, odds: Array) -> tuple[Ints, Ints]:
    """First and second tiles of the probable pairs of which each is the likelier one of either tile."""
    at = _probable(found, odds)
    return found.first[at], found.second[at]


def _probable(found: Candidates, odds: Array) -> Ints:
    chosen = margins(found.first, found.second, odds) > 0
    return np.flatnonzero(chosen & (expit(odds.astype(np.float64)) >= ACCEPTED))


def accepted(evidence: Evidence, found: Candidates, odds: Array, below: bool) -> Pairs:
    """The probable pairs, with their distances and probabilities."""
    kept = _probable(found, odds)
    first, second = found.first[kept], found.second[kept]
    probability = expit(odds[kept].astype(np.float64)).astype(np.float32)
    return Pairs(first, second, np.full(len(kept), below), evidence.distance(first, second), probability)
