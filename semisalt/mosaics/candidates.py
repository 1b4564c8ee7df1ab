"""Candidate pairs of one direction: margins over rivals, and the support that squares of tiles give."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semisalt.mosaics.borders import Array

Ints = NDArray[np.int64]

NO_RIVAL = 30.0  # the margin of a pair without a rival, and the greatest that counts
UNSUPPORTED = -8.0  # the support of a pair that is in no square, and the least that counts


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of one direction that may be neighbours: [P] first and second tile, log likelihood ratio, margin, and how
    much a joint of such tiles can say at all (`Evidence.information`).

    The margin is the ratio less that of the best rival: another pair with the same first or the same second tile.
    A pair is strictly mutual, either's best, if and only if its margin is positive.
    """

    first: Ints
    second: Ints
    ratio: Array
    margin: Array
    information: Array


def with_margins(first: Ints, second: Ints, ratio: Array, information: Array) -> Candidates:
    """Candidates of pairs with these log likelihood ratios."""
    return Candidates(first, second, ratio, margins(first, second, ratio), information)


def margins(first: Ints, second: Ints, ratio: Array) -> Array:
    """[P]: each pair's value less that of its best rival."""
    rival = np.maximum(_best_other(first, ratio), _best_other(second, ratio))
    return np.clip(ratio - rival, -NO_RIVAL, NO_RIVAL).astype(np.float32)


def _best_other(group: Ints, values: Array) -> Array:
    """[P]: the greatest value among the others of the same group; −inf where there are none."""
    order = np.lexsort((-values, group))
    groups, sorted_values = group[order], values[order]
    begins = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[begins, len(groups)])
    best = np.repeat(sorted_values[begins], sizes)
    second = np.full(len(begins), -np.inf, np.float32)
    second[sizes > 1] = sorted_values[begins[sizes > 1] + 1]
    best[begins] = second
    found = np.empty(len(values), np.float32)
    found[order] = best
    return found


def square_support(right: Candidates, below: Candidates, odds: tuple[Array, Array]) -> tuple[Array, Array]:
    """How well squares of two by two tiles confirm each candidate of both directions.

    Three pairs of a square put the fourth pair's tiles side by side. A square lies on either side of a pair; on each
    side its support is the log odds of the weakest of the three others in its best square there.

    Args:
        right, below: candidates of both directions.
        odds: log odds of their pairs, [P] each.

    Returns:
        The support of each, [P, 2] each, from its better side and from the other one, at least `UNSUPPORTED`.
    """
    across, down = (np.flatnonzero(values > UNSUPPORTED) for values in odds)
    top, right_side = joined(right.second[across], below.first[down])  # a tile, its right neighbour, the one below that
    left_side, bottom = joined(below.second[down], right.first[across])  # a tile, the one below, that one's right
    count = 1 + int(max((c.max(initial=0) for c in (right.first, right.second, below.first, below.second)), default=0))
    one_way = right.first[across[top]] * count + below.second[down[right_side]]
    other_way = below.first[down[left_side]] * count + right.second[across[bottom]]
    one, other = joined(one_way, other_way)
    edges = [across[top[one]], down[right_side[one]], down[left_side[other]], across[bottom[other]]]
    values = np.stack([odds[at][edge] for at, edge in zip((0, 1, 1, 0), edges, strict=True)])
    lengths = (len(right.first), len(below.first))
    sides = [np.full(lengths[at], UNSUPPORTED, np.float32) for at in (0, 1, 1, 0)]
    for place, edge in enumerate(edges):
        np.maximum.at(sides[place], edge, np.delete(values, place, axis=0).min(axis=0))
    across_both, down_both = np.stack([sides[0], sides[3]], axis=1), np.stack([sides[1], sides[2]], axis=1)
    return -np.sort(-across_both, axis=1), -np.sort(-down_both, axis=1)


def joined(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """All (i, j) with left[i] == right[j]."""
    order = np.argsort(right, kind="stable")
    begins = np.searchsorted(right[order], left, side="left")
    sizes = np.searchsorted(right[order], left, side="right") - begins
    ones = np.repeat(np.arange(len(left)), sizes)
    offsets = np.arange(len(ones)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ones, order[np.repeat(begins, sizes) + offsets]
