"""How well any two tiles adjoin: log likelihood ratios, with models for tiles of little and of much noise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semisalt.mosaics.borders import Array, Continuation, covariance, fit, inner_cuts, oriented, strips
from semisalt.mosaics.grid import Direction

Ints = NDArray[np.int64]

BLOCK = 256  # rows of the matrix of all pairs that are in memory at once
PORTION = 8192  # pairs that are looked at in detail at once
LEVELS = 6  # classes of tiles by noise, each with a model of its own
TILES_A_LEVEL = 300  # fewer tiles have fewer classes
LEARNED_FROM = 8192  # tiles, at most, that are cut
PRIOR = 200  # joints that the cuts inside of tiles count for against those between tiles


@dataclass(frozen=True, eq=False)
class Edges:
    """The borders of N tiles at which one direction's neighbours meet.

    Attributes:
        before, after: [N, DEPTH, F], the strips at the right or lower border, and at the left or upper one.
        usable_before, usable_after: [N], false where a border is quiet.
        level_before, level_after: [N], the class of noise near each border.
        inner: second moments of joints inside of the tiles for each class, [levels, F, 2 DEPTH, 2 DEPTH], a mean.
    """

    before: Array
    after: Array
    usable_before: NDArray[np.bool_]
    usable_after: NDArray[np.bool_]
    level_before: Ints
    level_after: Ints
    inner: NDArray[np.float64]

    @property
    def levels(self) -> int:
        """Number of classes."""
        return len(self.inner)

    def pooled(self) -> "Edges":
        """The same with one class."""
        zero = np.zeros_like(self.level_before)
        return replace(self, level_before=zero, level_after=zero, inner=self.inner.mean(axis=0, keepdims=True))


def read_edges(images: NDArray[np.uint8], direction: Direction, usable: NDArray[np.bool_]) -> Edges:
    """The borders of tiles [N, H, W] in a direction; unusable ones (blank tiles, copies) match nothing."""
    turned = oriented(images, direction)
    length = turned.shape[1]
    sample = turned[np.flatnonzero(usable)[:: max(1, int(usable.sum()) // LEARNED_FROM)]]
    cuts = inner_cuts(length)
    common = fit(_moments(sample, [*cuts[0], *cuts[1]]))
    noise = [_noise(turned, near, common) for near in (cuts[1], cuts[0])]
    classes = int(np.clip(usable.sum() // TILES_A_LEVEL, 1, LEVELS))
    known = np.concatenate([values[usable] for values in noise])
    limits = np.quantile(known, np.arange(1, classes) / classes) if len(known) else np.empty(0)
    level_before, level_after = (np.searchsorted(limits, values).astype(np.int64) for values in noise)
    inner = np.stack(
        [
            (
                _moments(turned[_some(usable & (level_before == level))], cuts[1])
                + _moments(turned[_some(usable & (level_after == level))], cuts[0])
            )
            / 2
            for level in range(classes)
        ]
    )
    before, after = strips(turned, length, True), strips(turned, 0, False)
    return Edges(
        before.spectra, after.spectra, usable & ~before.quiet, usable & ~after.quiet, level_before, level_after, inner
    )


def _some(which: NDArray[np.bool_]) -> Ints:
    """Positions where true, thinned out to a class's share of `LEARNED_FROM`."""
    found = np.flatnonzero(which)
    return found[:: max(1, len(found) * LEVELS // LEARNED_FROM)]


def _moments(turned: NDArray[np.uint8], cuts: list[int]) -> NDArray[np.float64]:
    """Mean second moments at cuts through tiles."""
    total: NDArray[np.float64] = np.zeros(1)
    joints = 0
    for cut in cuts:
        before, after = strips(turned, cut, True), strips(turned, cut, False)
        loud = ~(before.quiet | after.quiet)
        products, number = covariance(before.spectra[loud], after.spectra[loud])
        total, joints = total + products, joints + number
    return total / max(joints, 1)


def _noise(turned: NDArray[np.uint8], cuts: list[int], model: Continuation) -> NDArray[np.float64]:
    """[N]: how badly a common model predicts each tile across cuts near one of its borders."""
    errors = [model.mismatch(strips(turned, cut, True).spectra, strips(turned, cut, False).spectra) for cut in cuts]
    return np.asarray(np.mean(errors, axis=0), np.float64)


class Evidence:
    """Log likelihood ratios of "these two adjoin" for one direction's pairs."""

    def __init__(self, edges: Edges, first: Ints, second: Ints) -> None:
        """Learn from cuts inside of tiles, and from pairs that are sure (positions of the tiles), where there are."""
        self.edges = edges
        self.models: list[Continuation] = []
        for level in range(edges.levels):
            near = (edges.level_before[first] == level) | (edges.level_after[second] == level)
            products, number = covariance(edges.before[first[near]], edges.after[second[near]])
            self.models.append(fit((PRIOR * edges.inner[level] + products) / (PRIOR + number)))

    def of(self, first: Ints, second: Ints) -> Array:
        """[P]: the robust log likelihood ratio of pairs; the mean of what the models of either tile's class say.

        Student's t takes the Gaussian's place: how noisy these two tiles are, or how well their stretches agree, is
        not known, and a joint that fits worse than usual all along its length must not outweigh everything else.
        """
        return self._mean(first, second, Continuation.robust_ratio)

    def distance(self, first: Ints, second: Ints) -> Array:
        """[P]: rms error of what either strip predicts of the other, in units of what is usual for such tiles."""
        return np.asarray(np.sqrt(self._mean(first, second, Continuation.mismatch)), np.float32)

    def information(self, first: Ints, second: Ints) -> Array:
        """[P]: how much a joint of tiles of these classes tells, in nats; little where there is much noise."""
        each = np.array([model.information for model in self.models], np.float32)
        return np.asarray((each[self.edges.level_before[first]] + each[self.edges.level_after[second]]) / 2, np.float32)

    def _mean(self, first: Ints, second: Ints, measure: Callable[[Continuation, Array, Array], Array]) -> Array:
        """[P]: a measure of pairs, the mean of both tiles' classes' models."""
        total = np.zeros(len(first), np.float32)
        for level, model in enumerate(self.models):
            before, after = self.edges.level_before[first] == level, self.edges.level_after[second] == level
            weight = (before.astype(np.float32) + after) / 2
            asked = np.flatnonzero(weight)
            for start in range(0, len(asked), PORTION):
                part = asked[start : start + PORTION]
                values = measure(model, self.edges.before[first[part]], self.edges.after[second[part]])
                total[part] += weight[part] * values
        return total

    def search(self, reach: float, most: int) -> tuple[Ints, Ints]:
        """Candidate pairs: for each tile, as the first and as the second, those near its best.

        Args:
            reach: how far a candidate's (Gaussian) log likelihood ratio may lie below the best one's.
            most: candidates of a tile on one side, at most.

        Returns:
            [P] first and second tiles, each pair once, in ascending order.
        """
        count = len(self.edges.level_before)
        keys = [np.empty(0, np.int64)]
        for level, model in enumerate(self.models):
            rows = np.flatnonzero(self.edges.usable_before & (self.edges.level_before == level))
            keys += [row * count + column for row, column in self._best(model, rows, True, reach, most)]
            rows = np.flatnonzero(self.edges.usable_after & (self.edges.level_after == level))
            keys += [column * count + row for row, column in self._best(model, rows, False, reach, most)]
        first, second = np.divmod(np.unique(np.concatenate(keys)), max(count, 1))
        return first, second

    def _best(
        self, model: Continuation, rows: Ints, before: bool, reach: float, most: int
    ) -> Iterator[tuple[Ints, Ints]]:
        """Blocks of (tile, candidate) for the tiles `rows` on one side of the joint."""
        columns, compare = self._compare(model, before)
        if not len(columns):
            return
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            row, column = _near_best(compare(part), reach, most)
            yield part[row], columns[column]

    def comparison(self, before: bool) -> Callable[[Ints], Array]:
        """What compares tiles, as the first (`before`) or the second of a pair, with every tile, by one common model.

        A function of tiles [n] that gives [n, N]: the (Gaussian) log likelihood ratios, but for a constant a row; −inf
        for the tile itself and for quiet borders. Raises ValueError where there are classes of tiles.
        """
        (model,) = self.models
        columns, compare = self._compare(model, before)
        count = len(self.edges.level_before)

        def against_all(tiles: Ints) -> Array:
            ratios = np.full((len(tiles), count), -np.inf, np.float32)
            ratios[:, columns] = compare(tiles)
            return ratios

        return against_all

    def _compare(self, model: Continuation, before: bool) -> tuple[Ints, Callable[[Ints], Array]]:
        """The tiles C that may lie on the other side, and what compares tiles [n] with them: ratios [n, C]."""
        edges = self.edges
        own, others = (edges.before, edges.after) if before else (edges.after, edges.before)
        columns = np.flatnonzero(edges.usable_after if before else edges.usable_before)
        other, bias = model.features(others[columns], not before)
        other = np.concatenate([other, bias[:, None]], axis=1).T

        def compare(tiles: Ints) -> Array:
            features, _ = model.features(own[tiles], before)  # a row's own bias does not change its order
            ratios = np.concatenate([features, np.ones((len(tiles), 1), np.float32)], axis=1) @ other
            place = np.searchsorted(columns, tiles)
            own_row = np.flatnonzero(columns[np.minimum(place, len(columns) - 1)] == tiles)
            ratios[own_row, place[own_row]] = -np.inf
            return np.asarray(ratios, np.float32)

        return columns, compare


def _near_best(ratios: Array, reach: float, most: int) -> tuple[Ints, Ints]:
    """Entries of a matrix within reach of their row's best; the `most` best of a row. −inf never counts."""
    bar = np.maximum(ratios.max(axis=1) - np.float32(reach), np.float32(-1e30))
    # np.nonzero of a matrix takes fifteen times as long where few entries are true.
    row, column = np.divmod(np.flatnonzero(ratios >= bar[:, None]), ratios.shape[1])
    order = np.lexsort((column, -ratios[row, column], row))
    row, column = row[order], column[order]
    kept = np.arange(len(row)) - np.searchsorted(row, row) < most
    return row[kept], column[kept]
