from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semisalt.data.folds import grouped_folds, held_out, keep_labels, sample_indices, stratified_folds


def survey(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Coverages of which 39 % are zero, and depths in whole steps."""
    generator = np.random.default_rng(seed)
    coverage = np.where(generator.random(count) < 0.39, 0, generator.random(count) ** 2)
    return coverage, generator.integers(50, 960, count).astype(np.float32)


@given(st.integers(2, 400), st.integers(2, 7), st.integers(0, 99), st.booleans())
@settings(deadline=None, max_examples=60)
def test_folds_are_balanced_in_size_and_in_empty_tiles(count: int, n_folds: int, seed: int, deep: bool) -> None:
    n_folds = min(n_folds, count)
    coverage, depths = survey(count, seed)
    folds = stratified_folds(coverage, depths if deep else None, n_folds, seed)
    for chosen in (np.ones(count, bool), coverage == 0, coverage > 0):
        sizes = np.bincount(folds[chosen], minlength=n_folds)
        assert len(sizes) == n_folds
        assert sizes.max() - sizes.min() <= 1


def test_folds_are_balanced_within_coverage_and_depth() -> None:
    coverage, depths = survey(997)
    folds = stratified_folds(coverage, depths, 5, 3)
    edges = np.quantile(depths, [0.2, 0.4, 0.6, 0.8])
    cells = Counter(
        (bool(c > 0), int((d >= edges).sum()), int(f)) for c, d, f in zip(coverage, depths, folds, strict=True)
    )
    for depth in range(5):
        sizes = [cells[False, depth, fold] for fold in range(5)]  # one stratum
        assert max(sizes) - min(sizes) <= 1
    salt = np.sort(coverage[coverage > 0])
    for low, high in [(0.0, 0.1), (0.3, 0.4), (0.9, 1.0)]:  # quantile bins, one stratum each without depths
        inside = (coverage > np.quantile(salt, low)) & (coverage < np.quantile(salt, high))
        sizes = np.bincount(stratified_folds(coverage, None, 5, 3)[inside], minlength=5)
        assert sizes.max() - sizes.min() <= 2  # the bin's outermost tiles are cut off by the strict edges
    means = [coverage[folds == fold].mean() for fold in range(5)]
    assert max(means) - min(means) < 0.02


def test_folds_depend_on_the_seed_alone() -> None:
    coverage, depths = survey(200)
    once = stratified_folds(coverage, depths, 5, 1)
    np.testing.assert_array_equal(once, stratified_folds(coverage, depths, 5, 1))
    assert (once != stratified_folds(coverage, depths, 5, 2)).mean() > 0.5


def test_impossible_folds_are_refused() -> None:
    coverage, depths = survey(4)
    for n_folds in (0, 1, 5):
        with pytest.raises(ValueError, match="folds of 4 tiles"):
            stratified_folds(coverage, depths, n_folds, 0)
    with pytest.raises(ValueError, match="4 coverages, but 3 depths"):
        stratified_folds(coverage, depths[:3], 2, 0)


@given(st.integers(10, 300), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_kept_labels_are_nested_and_as_many_as_asked(count: int, one: float, other: float, seed: int) -> None:
    coverage, depths = survey(count, seed)
    folds = stratified_folds(coverage, depths, 5, seed)
    less, more = sorted([one, other])
    few, many = (keep_labels(coverage, depths, folds, fraction, seed) for fraction in (less, more))
    assert not (few & ~many).any()
    for fold in range(5):
        kept, size = few[folds == fold].sum(), (folds == fold).sum()
        assert kept >= min(2, size)
        assert abs(kept - less * size) <= 0.5 or kept == min(2, size)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5])
def test_kept_labels_are_spread_over_coverage_and_depth(fraction: float, seed: int) -> None:
    coverage, depths = survey(3000, seed)
    folds = stratified_folds(coverage, depths, 5, 0)
    kept = keep_labels(coverage, depths, folds, fraction, seed)
    wanted = fraction * 3000
    assert abs(kept.sum() - wanted) <= 3
    # A random draw's standard deviation, sqrt(n p q), would be 5 to 17 and 5 to 12 tiles.
    assert abs((coverage[kept] == 0).sum() - fraction * (coverage == 0).sum()) <= 5
    large = coverage >= np.quantile(coverage[coverage > 0], 0.7)
    assert abs(large[kept].sum() - fraction * large.sum()) <= 5
    for shallow in np.quantile(depths, [0.2, 0.4, 0.6, 0.8]):
        above = depths < shallow
        assert abs(above[kept].sum() - fraction * above.sum()) <= 12


def test_all_labels_are_kept_at_one_and_the_seed_decides() -> None:
    coverage, depths = survey(100)
    folds = stratified_folds(coverage, depths, 5, 0)
    assert keep_labels(coverage, depths, folds, 1.0, 0).all()
    tenth = keep_labels(coverage, None, folds, 0.1, 0)
    assert tenth.sum() == 10
    np.testing.assert_array_equal(tenth, keep_labels(coverage, None, folds, 0.1, 0))
    assert (tenth != keep_labels(coverage, None, folds, 0.1, 1)).any()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_other_fractions_are_refused(fraction: float) -> None:
    coverage, depths = survey(20)
    with pytest.raises(ValueError, match="fraction"):
        keep_labels(coverage, depths, stratified_folds(coverage, depths, 5, 0), fraction, 0)


def test_samples_are_nested_sorted_and_without_repetition() -> None:
    taken: set[int] = set()
    for limit in (0, 1, 7, 50, 100, 200):
        sample = sample_indices(100, limit, 3).tolist()
        assert len(sample) == min(limit, 100)
        assert sample == sorted(set(sample))
        assert taken <= set(sample)
        taken = set(sample)
    assert sample_indices(5, None, 0).tolist() == [0, 1, 2, 3, 4]
    assert sample_indices(100, 7, 3).tolist() != sample_indices(100, 7, 4).tolist()
    with pytest.raises(ValueError, match="negative"):
        sample_indices(5, -1, 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(60, 200), n_folds=st.integers(2, 5))
def test_groups_share_a_fold_and_folds_stay_alike(seed: int, count: int, n_folds: int) -> None:
    generator = np.random.default_rng(seed)
    coverage = np.where(generator.random(count) < 0.4, 0.0, generator.random(count))
    groups = generator.integers(0, count, count)  # mostly alone, some in twos to fives
    folds = grouped_folds(coverage, None, groups, n_folds, seed)
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    largest = np.bincount(groups).max()
    sizes = np.bincount(folds, minlength=n_folds)
    assert sizes.max() - sizes.min() <= 12 + largest
    empty = np.bincount(folds[coverage == 0], minlength=n_folds)
    assert empty.max() - empty.min() <= largest + 1
    np.testing.assert_array_equal(folds, grouped_folds(coverage, None, groups, n_folds, seed))


def test_tiles_without_company_are_dealt_as_without_groups_but_for_ties() -> None:
    coverage = np.repeat([0.0, 0.1, 0.5, 0.9], 25)
    folds = grouped_folds(coverage, None, np.arange(100), 5, 0)
    for value in np.unique(coverage):
        assert np.bincount(folds[coverage == value], minlength=5).tolist() == [5] * 5


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="1 groups of tiles cannot fill 2 folds"):
        grouped_folds(np.zeros(4), None, np.zeros(4, np.int64), 2, 0)


@given(st.integers(20, 400), st.floats(0.01, 0.9), st.integers(0, 99), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_holdout_is_a_share_of_every_kind_of_tile(count: int, share: float, seed: int, deep: bool) -> None:
    coverage, depths = survey(count, seed)
    out = held_out(coverage, depths if deep else None, None, share, seed)
    assert out.sum() == min(count, max(2, int(np.floor(share * count + 0.5))))
    empty = coverage == 0
    assert out[empty].sum() == pytest.approx(share * empty.sum(), abs=2.5)
    np.testing.assert_array_equal(out, held_out(coverage, depths if deep else None, None, share, seed))
    more = held_out(coverage, depths if deep else None, None, min(0.95, 1.3 * share), seed)
    assert more[out].all()  # nested


@given(st.integers(0, 99), st.floats(0.05, 0.5))
@settings(deadline=None, max_examples=30)
def test_groups_are_held_out_as_a_whole(seed: int, share: float) -> None:
    coverage, depths = survey(300, seed)
    groups = np.random.default_rng(seed).integers(0, 60, 300)
    out = held_out(coverage, depths, groups, share, seed)
    for group in np.unique(groups):
        assert len(np.unique(out[groups == group])) == 1
    assert out.mean() == pytest.approx(1 / max(2, round(1 / share)), abs=0.05)


def test_no_holdout_and_impossible_ones() -> None:
    coverage, depths = survey(50)
    assert not held_out(coverage, depths, None, 0, 1).any()
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="kept out must be"):
            held_out(coverage, depths, None, share, 1)
