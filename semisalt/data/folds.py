"""Which tiles a fold validates on, and which labels or unlabelled tiles a shortened run keeps."""

import numpy as np
from numpy.typing import NDArray

COVERAGE_BINS = 10
DEPTH_BINS = 5

Floats = NDArray[np.float64] | NDArray[np.float32]


def stratified_folds(coverage: Floats, depths: Floats | None, n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold that each tile is a validation tile of.

    The tiles are put in order by coverage (empty, then ten quantile bins of the rest), within it by depth
    (five quantile bins), within that at random, and dealt out in turn. So folds differ by at most one tile in
    size, in every class of coverage, and in every class of coverage and depth.

    Args:
        coverage: [N], each tile's share of salt. Blank tiles are for the caller to leave out.
        depths: [N], or None.
        n_folds: at least 2, at most N.
        seed: the same seed gives the same folds.

    Returns:
        [N], 0 to n_folds − 1.

    Raises:
        ValueError: as many folds cannot be made of these tiles, or coverage and depths differ in length.
    """
    count = len(coverage)
    if not 2 <= n_folds <= count:
        raise ValueError(f"{n_folds} folds of {count} tiles; at least 2, and at most one a tile")
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(count)
    order = shuffled[np.argsort(_strata(coverage, depths)[shuffled], kind="stable")]
    folds = np.empty(count, dtype=np.int64)
    folds[order] = generator.permutation(n_folds)[np.arange(count) % n_folds]
    return folds


def grouped_folds(
    coverage: Floats, depths: Floats | None, groups: NDArray[np.int64], n_folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold that each tile is a validation tile of, the same for all tiles of a group.

    The largest groups are dealt first, those of equal size in the order of `stratified_folds`; each goes to the fold
    that has the fewest tiles of the group's class of coverage, then the fewest in all.

    Args:
        coverage, depths, n_folds, seed: as of `stratified_folds`.
        groups: [N], a number for each group.

    Raises:
        ValueError: as of `stratified_folds`; fewer groups than folds.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < n_folds:
        raise ValueError(f"{len(names)} groups of tiles cannot fill {n_folds} folds")
    classes = _strata(coverage, depths) // DEPTH_BINS
    alone = stratified_folds(coverage, depths, n_folds, seed)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])
    generator = np.random.default_rng(seed)
    order = sorted(generator.permutation(len(names)), key=lambda group: -len(members[group]))
    folds = np.empty(len(coverage), dtype=np.int64)
    counts = np.zeros((n_folds, COVERAGE_BINS + 1), dtype=np.int64)
    for group in order:
        tiles = members[group]
        # Its own stratified fold breaks ties, so that single tiles fall as they would without groups.
        preferred = np.arange(n_folds) != alone[tiles[0]]
        crowd = counts[:, classes[tiles]].sum(axis=1)
        fold = np.lexsort((preferred, counts.sum(axis=1), crowd))[0]
        folds[tiles] = fold
        np.add.at(counts[fold], classes[tiles], 1)
    return folds


def keep_labels(
    coverage: Floats, depths: Floats | None, folds: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """The tiles whose labels are kept when only a fraction of them may be used.

    From each fold of n tiles it keeps round(fraction · n), at least two (each chooses an operating point for the
    other), spread over coverage and depth as the fold is. Nested: whatever a fraction keeps, every greater fraction
    keeps too.

    Args:
        coverage: [N], each tile's share of salt.
        depths: [N], or None.
        folds: [N], as `stratified_folds` gives them for all tiles.
        fraction: greater than 0, at most 1.
        seed: the same seed gives the same tiles.

    Returns:
        [N], true where the label is kept.

    Raises:
        ValueError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of labels must be greater than 0 and at most 1, not {fraction}")
    generator = np.random.default_rng(seed)
    strata = _strata(coverage, depths)
    kept = np.zeros(len(coverage), dtype=np.bool_)
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        wanted = min(len(members), max(2, int(np.floor(fraction * len(members) + 0.5))))
        kept[members[_spread_order(strata[members], generator)[:wanted]]] = True
    return kept


def held_out(
    coverage: Floats, depths: Floats | None, groups: NDArray[np.int64] | None, share: float, seed: int
) -> NDArray[np.bool_]:
    """The tiles that are kept out of every fold, for a last judgement; spread over coverage and depth.

    round(share · N) tiles, at least two; nested, as of `keep_labels`. With groups a group is kept out as a
    whole: one of round(1 / share) parts, at least two, as `grouped_folds` makes them.

    Args:
        coverage: [N], each tile's share of salt.
        depths: [N], or None.
        groups: [N], a number for each group of tiles that must not be parted, or None.
        share: 0 (none) to below 1.
        seed: the same seed gives the same tiles.

    Returns:
        [N], true where the tile is kept out.

    Raises:
        ValueError: the share is not in [0, 1), or there are fewer groups than parts.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of tiles that are kept out must be at least 0 and less than 1, not {share}")
    if share == 0:
        return np.zeros(len(coverage), np.bool_)
    if groups is None:
        return keep_labels(coverage, depths, np.zeros(len(coverage), np.int64), share, seed)
    parts = grouped_folds(coverage, depths, groups, max(2, round(1 / share)), seed)
    return np.asarray(parts == 0, np.bool_)


def sample_indices(n: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """At most `limit` of n positions, at random and in ascending order; all of them if `limit` is None.

    Nested: whatever a limit takes, every greater limit takes too. Raises ValueError for a negative limit.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"a limit of {limit} tiles; it cannot be negative")
    return np.sort(np.random.default_rng(seed).permutation(n)[:limit])


def _strata(coverage: Floats, depths: Floats | None) -> NDArray[np.int64]:
    """[N]: the number of each tile's stratum, which orders by coverage first, then by depth."""
    if depths is not None and len(depths) != len(coverage):
        raise ValueError(f"{len(coverage)} coverages, but {len(depths)} depths")
    salt = coverage > 0
    by_coverage = np.zeros(len(coverage), dtype=np.int64)
    by_coverage[salt] = 1 + _quantile_bins(coverage[salt], COVERAGE_BINS)
    by_depth = 0 if depths is None else _quantile_bins(depths, DEPTH_BINS)
    return by_coverage * DEPTH_BINS + by_depth


def _quantile_bins(values: Floats, bins: int) -> NDArray[np.int64]:
    """[N], 0 to bins − 1: about equally many values in each, equal values in the same one."""
    if not len(values):
        return np.empty(0, dtype=np.int64)
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _spread_order(strata: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """An order of the tiles of which every beginning holds every coverage, and in it every depth, in proportion."""
    order = _interleave(strata, generator.permutation(len(strata)), generator)
    return _interleave(strata // DEPTH_BINS, order, generator)


def _interleave(
    groups: NDArray[np.int64], order: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """The order changed so that every beginning holds the groups in proportion; within a group it stays.

    The r-th of a group's n tiles gets the key (r + u)/n: the tiles with keys up to t are a share t of every group,
    to within one tile. The offsets u spread evenly over (0, 1), or all groups would be rounded to the same side.
    """
    grouped = order[np.argsort(groups[order], kind="stable")]
    _, starts, inverse, counts = np.unique(groups[grouped], return_index=True, return_inverse=True, return_counts=True)
    golden = (np.sqrt(5) - 1) / 2
    offsets = (generator.random() + golden * np.arange(len(starts))) % 1
    keys = (np.arange(len(grouped)) - starts[inverse] + offsets[inverse]) / counts[inverse]
    return grouped[np.argsort(keys, kind="stable")]
