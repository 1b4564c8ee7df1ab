"""The small components of masks that change from trial to trial, told in a fraction of the time of finding them.

The masks differ little: each thresholds a vote of the same voters. A pixel that has a neighbour to which no voter gives
less is never salt without it; nor is one whose neighbour is given more by the loudest voter, by the loudest two
together, and so on, when no voter is louder than the one before. So pixels are followed once from neighbour to likelier
neighbour up to a peak: the pixels of one peak are its basin, and those of them that are salt hang together, whatever
the vote. Basins meet at passes, two adjacent pixels; when both are salt, so do their basins hang together. The passes
of a maximum spanning forest join nearly all basins that belong together, and quickly; only what is small yet is joined
by its other passes.

The same holds for the background and its holes, with the words turned round. Terms: Vincent & Soille 1991
(watersheds); Najman & Couprie 2006 (component trees).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from semisalt.inference.components import find_components

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

_FOUR = ((-1, 0), (0, -1), (0, 1), (1, 0))
_EIGHT = (*_FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True, eq=False)
class Basins:
    """The basins of n tiles with U open pixels, those that are there or not; K basins in all."""

    count_open: int  # U
    pixels: Indices | None  # [8 B], each basin's open pixels, U in the rest of its last byte; None: they lie that way
    truly: NDArray[np.uint8]  # [B], which of these are salt in truth, eight to a byte
    starts: Indices  # [K + 1], the byte where a basin starts, and B
    always: Indices  # [2, K], how many of its pixels are always there, and how many of these are salt in truth
    tile: Indices  # [K]
    parent: Indices  # [K], the basin behind its highest pass; itself where there is none
    rounds: int  # parent is applied to itself so often until it leads to the root of each tree
    highest: Indices  # [2, K], that pass: open pixels, or U + 1 for one that is always there
    passes: Indices  # [3, P], all passes by basin: a pixel of its own, one of another basin, and that basin
    first: Indices  # [K + 1], where a basin's passes start

    def count(self, there: Flags) -> Indices:
        """Each basin's pixels, and how many of them are salt in truth, [2, K]. `there`: the open pixels [U]."""
        bits = np.packbits(there if self.pixels is None else np.append(there, False).take(self.pixels))
        counts = self.always.copy()
        sums = np.zeros(len(bits) + 1, np.int64)
        for row, part in zip(counts, (bits, bits & self.truly), strict=True):
            np.cumsum(np.bitwise_count(part), out=sums[1:])
            row += np.diff(sums.take(self.starts))
        return counts

    def per_tile(self, counts: Indices, tiles: int, which: Indices | None = None) -> Indices:
        """Counts of basins [C, K], or of some of them, summed over each tile, [C, n]."""
        tile = self.tile
        if which is not None:
            counts, tile = counts[:, which], tile[which]
        return np.stack([np.bincount(tile, weights=row, minlength=tiles) for row in counts]).astype(np.int64)

    def open_pixels(self, basins: Indices) -> Indices:
        """The numbers of the open pixels of some basins."""
        places = _ranges(8 * self.starts[basins], 8 * self.starts[basins + 1])
        if self.pixels is None:
            return places
        pixels = self.pixels[places]
        return pixels[pixels < self.count_open]

    def small(self, there: Flags, sizes: Indices, smallest: int) -> Indices:
        """The basins that make up the components of fewer than `smallest` pixels.

        Args:
            there: [U], the open pixels.
            sizes: [K], all pixels of each basin.
            smallest: in pixels.
        """
        there = np.append(there, [False, True])
        joined = there.take(self.highest[0]) & there.take(self.highest[1])
        top = np.where(joined, self.parent, np.arange(len(sizes)))
        for _ in range(self.rounds):
            top = top.take(top)
        total = np.bincount(top, weights=sizes, minlength=len(sizes))
        basins = np.flatnonzero((sizes > 0) & (total.take(top) < smallest))
        starts, ends = self.first[basins], self.first[basins + 1]
        rows = _ranges(starts, ends)
        own, other, beyond = (column.take(rows) for column in self.passes)
        met = np.flatnonzero(there.take(own) & there.take(other))
        of, beyond = np.repeat(top[basins], ends - starts)[met], top.take(beyond[met])
        tops, edges = np.unique(np.stack([of, beyond])[:, of != beyond], return_inverse=True)
        together = _joined(edges, len(tops))
        total[tops] = np.bincount(together, weights=total[tops])[together]
        small: Indices = basins[total[top[basins]] < smallest]
        return small

    def counting_below(self, size: int) -> "Basins":
        """The same, blind to the open pixels of basins that always have `size` pixels: `count` then tells of these what
        they always have, which is enough for `small` up to that size.
        """
        assert self.pixels is not None  # noqa: S101  # they lie basin by basin only later
        counted = self.always[0] < size
        bytes_of = np.diff(self.starts)
        kept = np.flatnonzero(np.repeat(counted, bytes_of))
        return replace(
            self,
            pixels=self.pixels.reshape(-1, 8)[kept].ravel(),
            truly=self.truly[kept],
            starts=np.append(0, np.cumsum(np.where(counted, bytes_of, 0))),
        )

    def laid_out(self, order: Indices) -> "Basins":
        """The same for open pixels in another order, `order` naming the old number of each, U for none."""
        places = np.empty(self.count_open + 2, np.int64)
        places[order] = np.arange(len(order))
        places[-2:] = len(order) + np.arange(2)
        return replace(
            self,
            count_open=len(order),
            pixels=None if order is self.pixels else places[self.pixels],
            highest=places[self.highest],
            passes=np.stack([places[self.passes[0]], places[self.passes[1]], self.passes[2]]),
        )


def _joined(edges: Indices, nodes: int) -> Indices:
    """The first node of each node's component, [nodes]. For a hundred edges scipy takes eight times as long."""
    one, other = edges
    first = np.arange(nodes)
    while True:
        lower = first.copy()
        np.minimum.at(lower, one, first[other])
        np.minimum.at(lower, other, first[one])
        if np.array_equal(lower, first):
            return first
        first = lower[lower]


def _ranges(first: Indices, end: Indices) -> Indices:
    """All numbers from each `first` to before its `end`, one range after the other."""
    lengths = end - first
    before = lengths.cumsum() - lengths
    numbers: Indices = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return numbers


def find_basins(
    words: Sequence[NDArray[np.uint8]],
    spots: Indices,
    always: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    connectivity: int,
) -> Basins:
    """The basins of a stack of tiles.

    Args:
        words: [U] each, what the voters say of the open pixels, the loudest first: the more, the sooner they are
            there. Any weighted mean whose weights do not rise from voter to voter is told right, summed in float32
            and cut at any threshold.
        spots: [U], their flat positions in the tiles.
        always: [n, H, W], 1 for the pixels that are always there.
        truth: [n, H, W], 1 for salt.
        connectivity: of the components, 4 or 8.
    """
    height, width = always.shape[1:]
    count = len(spots)
    pieces = find_components(always, connectivity)
    # What stands where, with a frame around each tile: -1 nothing, an open pixel's number, or U + a fixed piece's.
    numbers = np.full((len(always), height + 2, width + 2), -1, np.int64)
    fixed = np.flatnonzero(always)
    piece = pieces.labels.ravel()[fixed] - 1
    inside = numbers[:, 1:-1, 1:-1]
    inside[always != 0] = count + piece
    tile, row, column = np.unravel_index(spots, always.shape)
    inside[tile, row, column] = np.arange(count)
    places = np.ravel_multi_index((tile, row + 1, column + 1), numbers.shape)
    shifts = [down * (width + 2) + right for down, right in (_FOUR if connectivity == 4 else _EIGHT)]
    beside = [numbers.ravel()[places + shift] for shift in shifts]

    sums = np.cumsum(words, axis=0, dtype=np.int32)
    heights = np.append(sums.sum(axis=0, dtype=np.int64), np.full(len(pieces.area) - 1, np.iinfo(np.int32).max))
    climbed = _climb(words, sums, beside, heights)
    summit = climbed == np.arange(len(climbed))
    basin, basins = (summit.cumsum() - 1)[climbed], int(np.count_nonzero(summit))
    pixels, starts = _in_bytes(basin[:count], basins)
    of_fixed = basin[count + piece]
    right = truth.ravel()[fixed] != 0
    own_tile = np.zeros(basins, np.int64)
    own_tile[basin[:count]] = tile
    own_tile[of_fixed] = fixed // (height * width)
    passes = _passes(beside, basin)
    return Basins(
        count,
        pixels,
        np.packbits(np.append(truth.ravel()[spots] != 0, False)[pixels]),
        starts,
        np.stack([np.bincount(part, minlength=basins) for part in (of_fixed, of_fixed[right])]),
        own_tile,
        *_forest(passes, basin, heights, count, basins),
        np.stack([_pixel(passes[0], count), _pixel(passes[1], count), basin[passes[1]]]),
        np.searchsorted(basin[passes[0]], np.arange(basins + 1)),
    )


def _climb(
    words: Sequence[NDArray[np.uint8]], sums: NDArray[np.int32], beside: Sequence[Indices], heights: Indices
) -> Indices:
    """Where each open pixel and each fixed piece ends up, climbing: [U + D], at itself for a peak.

    Args:
        words: [U] each.
        sums: [V, U], of the first voter's words, of the first two voters', and so on.
        beside: [U] each, the neighbours.
        heights: [U + D], greater where all sums are.
    """
    count = len(words[0])
    # With sums that differ by d the votes differ by d / V at least (the first of V weights is no less than 1 / V), and
    # by more than float32 rounds them, 2 V 255 / 2^24 at most. Where no word is less, neither is the rounded vote.
    margin = len(words) ** 2 // 2**15
    upward = np.arange(len(heights))
    rank = heights * len(heights) + upward  # of equals the later one is higher: nothing climbs in circles
    for others in beside:
        here = np.flatnonzero(others >= 0)
        here = here[rank[others[here]] > rank[upward[here]]]
        there = others[here]
        sure = there >= count
        loose = np.flatnonzero(~sure)
        low, high = here[loose], there[loose]
        no_less = np.logical_and.reduce([word[high] >= word[low] for word in words])
        more = np.logical_and.reduce([each[high] - each[low] > margin for each in sums])
        sure[loose] = no_less | more
        upward[here[sure]] = there[sure]
    while True:
        further = upward[upward]
        if np.array_equal(further, upward):
            return upward
        upward = further


def _in_bytes(basin: Indices, basins: int) -> tuple[Indices, Indices]:
    """Open pixels by basin, each basin whole bytes: the pixels [8 B], and where the basins start [basins + 1]."""
    sizes = np.bincount(basin, minlength=basins)
    starts = np.append(0, np.cumsum(-(-sizes // 8)))
    pixels = np.full(8 * int(starts[-1]), len(basin))
    within = np.arange(len(basin)) - np.repeat(sizes.cumsum() - sizes, sizes)
    pixels[8 * np.repeat(starts[:-1], sizes) + within] = np.argsort(basin)
    return pixels, starts


def _passes(beside: Sequence[Indices], basin: Indices) -> Indices:
    """Adjacent pixels of different basins, each pair both ways, by the basin of the first: [2, P]."""
    count = len(beside[0])
    pairs = []
    for others in beside:
        here = np.flatnonzero((others >= 0) & (basin[:count] != basin[others]))
        there = others[here]
        pairs += [(here, there)]
        fixed = there >= count  # an open pixel is its own neighbours' neighbour; a fixed piece has none of its own
        pairs += [(there[fixed], here[fixed])]
    both = np.concatenate([np.stack(pair) for pair in pairs], axis=1)
    return both[:, np.argsort(basin[both[0]])]


def _pixel(numbers: Indices, count: int) -> Indices:
    """Open pixels as they are, U + 1 for what is always there."""
    return np.where(numbers < count, numbers, count + 1)


def _forest(passes: Indices, basin: Indices, heights: Indices, count: int, basins: int) -> tuple[Indices, int, Indices]:
    """The maximum spanning forest by the height of the passes: each basin's parent [K], how often it is applied to
    itself until it leads to the root, and the pass to it [2, K].
    """
    parent, highest = np.arange(basins), np.full((2, basins), count)
    own, other = basin[passes]
    one_way = np.flatnonzero(own < other)
    low = heights[passes[:, one_way]].min(axis=0)
    edge, depth = own[one_way] * basins + other[one_way], low.max(initial=0) - low
    order = np.argsort(edge * (depth.max(initial=0) + 1) + depth)
    order = order[np.flatnonzero(np.diff(edge[order], prepend=-1))]  # the highest pass between two basins
    edge = edge[order]
    # scipy takes an edge of length 0 for none. One more node leads to every tree.
    graph = coo_array((1.0 + depth[order], np.divmod(edge, max(basins, 1))), (basins, basins))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    trees = np.unique(connected_components(tree.tocsr(), directed=False)[1], return_index=True)[1]
    ends: tuple[Indices, Indices] = np.append(tree.row, np.full(len(trees), basins)), np.append(tree.col, trees)
    rooted = coo_array((np.ones(basins), ends), (basins + 1, basins + 1)).tocsr()  # as many edges as basins
    before = breadth_first_order(rooted, basins, directed=False)[1][:basins].astype(np.int64)
    inner = np.flatnonzero(before < basins)
    parent[inner] = before[inner]
    joined = np.minimum(inner, parent[inner]) * basins + np.maximum(inner, parent[inner])
    highest[:, inner] = _pixel(passes[:, one_way[order[np.searchsorted(edge, joined)]]], count)
    top, rounds = parent, 0
    while not np.array_equal(above := top[top], top):
        top, rounds = above, rounds + 1
    return parent, rounds, highest
