import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semisalt.config import PseudoConfig
from semisalt.pseudo.selection import (
    CLASS_EDGES,
    TAKEN,
    TOLERANCE,
    Candidates,
    decided_share,
    mean_confidence,
    own_threshold,
    quota,
    refuse,
    select,
    size_classes,
)

Floats = NDArray[np.float64]
PIXELS = 10_000


def candidates(count: int, **measures: object) -> Candidates:
    """Tiles that nothing speaks against, but for the given measures."""
    values: dict[str, object] = {
        "blank": np.zeros(count, np.bool_),
        "decided": np.full(count, 0.99),
        "confidence": np.full(count, 0.98),
        "agreement": np.full(count, np.nan),
        "stability": np.full(count, np.nan),
        "area": np.full(count, 1000),
        "pixels": PIXELS,
    }
    changes = {name: np.asarray(value) if isinstance(value, list) else value for name, value in measures.items()}
    return Candidates(**{**values, **changes})  # type: ignore[arg-type]


def test_measures_by_hand() -> None:
    """Values 51/255 = .2 and 204/255 = .8 are on the cut, and not decided."""
    maps = np.array([[[0, 50], [51, 204]], [[205, 255], [255, 255]], [[128, 128], [127, 0]]], np.uint8)
    assert decided_share(maps, 0.2, 0.8).tolist() == [0.5, 1.0, 0.25]
    expected = [
        (1 + 205 / 255 + 204 / 255 + 204 / 255) / 4,
        (205 / 255 + 3) / 4,
        (128 / 255 + 128 / 255 + 128 / 255 + 1) / 4,
    ]
    assert mean_confidence(maps) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.8), (0.05, 0.95), (0.49, 0.51), (0.0, 1.0)])
def test_measures_equal_plain_loops(low: float, high: float) -> None:
    maps = np.random.default_rng(3).integers(0, 256, (5, 6, 7), dtype=np.uint8)
    for at, tile in enumerate(maps):
        values = [int(v) / 255 for v in tile.ravel()]
        assert decided_share(maps, low, high)[at] == pytest.approx(sum(v < low or v > high for v in values) / 42)
        assert mean_confidence(maps)[at] == pytest.approx(sum(max(v, 1 - v) for v in values) / 42)


def test_own_threshold_gives_the_priors_share_of_salt() -> None:
    counts = np.bincount(np.random.default_rng(0).integers(0, 256, 5000), minlength=256)
    thresholds = tuple(round(0.3 + 0.02 * step, 2) for step in range(21))
    for prior in (0.0, 0.31, 0.5, 0.62, 1.0):
        shares = [sum(int(counts[v]) for v in range(256) if v / 255 > t) / 5000 for t in thresholds]
        best = own_threshold(counts, prior, thresholds)
        assert abs(shares[thresholds.index(best)] - prior) == pytest.approx(min(abs(s - prior) for s in shares))


def test_own_threshold_of_certain_maps_is_the_middle_one() -> None:
    """Where every threshold gives the same masks none is preferred."""
    counts = np.zeros(256, np.int64)
    counts[[0, 255]] = 700, 300
    assert own_threshold(counts, 0.9, (0.3, 0.4, 0.5, 0.6, 0.7)) == 0.5


def test_size_classes_by_hand() -> None:
    shares = np.array([0, 0.0001, 0.05, 0.0501, 0.2, 0.21, 0.4, 0.41, 0.65, 0.66, 1])
    assert size_classes(shares).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_each_rule_refuses_its_tile_and_the_first_rule_counts() -> None:
    tiles = candidates(
        10,
        blank=np.arange(10) == 1,
        decided=[0.9, 0.99, 0.899, *[0.99] * 7],
        confidence=[*[0.98] * 3, 0.89, *[0.98] * 6],
        agreement=[0.8, np.nan, 0.8, 0.8, 0.79, *[0.8] * 5],
        stability=[0.7, np.nan, 0.7, 0.7, 0.1, 0.69, *[0.7] * 4],
        area=[20, 0, 1, 500, 500, 500, 19, 1, 9001, 0],
    )
    config = PseudoConfig(decided=0.9, confidence=0.9, mirrored=0.8, stability=0.7, min_area=20, max_coverage=0.9)
    assert refuse(tiles, config).tolist() == [
        "", "blank", "undecided", "unsure", "unlike its mirror image", "unstable", "tiny", "tiny", "nearly full", "",
    ]  # fmt: skip


def test_a_cut_without_its_measure_is_an_error() -> None:
    for cut in ("mirrored", "stability"):
        with pytest.raises(ValueError, match="was not measured"):
            refuse(candidates(3), PseudoConfig(**{cut: 0.5}))
    # A blank tile needs none.
    refuse(candidates(1, blank=np.ones(1, np.bool_)), PseudoConfig(mirrored=0.5))


def test_quota_by_hand() -> None:
    """Half of the labelled tiles are empty, half have a tenth of salt: so are the taken ones, the best of each."""
    prior = np.array([0.0, 0.1] * 10)
    coverage = np.array([0.0] * 8 + [0.1] * 3 + [0.8] * 5)
    taken = quota(np.arange(16)[::-1], coverage, prior, None)
    # Three with salt, and as many empty ones, or a fourth one less: 3 · .1 / 6 = .05 is the prior's mean itself.
    assert sorted(taken.tolist()) == [5, 6, 7, 8, 9, 10]
    # A class that no labelled tile has (.8) is never taken, however good.
    assert sorted(quota(np.arange(16)[::-1], coverage, prior, 4).tolist()) == [6, 7, 9, 10]


def test_empty_tiles_do_not_flood() -> None:
    """18 times as many empty ones as with salt: what is taken stays at the prior."""
    rng = np.random.default_rng(1)
    prior = np.where(rng.random(400) < 0.4, 0, rng.uniform(0.01, 0.9, 400))
    coverage = np.concatenate([np.zeros(1800), rng.uniform(0.01, 0.9, 100)])
    taken = quota(np.arange(1900), coverage, prior, None)
    assert len(taken) > 100
    assert coverage[taken].mean() == pytest.approx(prior.mean(), rel=TOLERANCE)
    assert (coverage[taken] == 0).mean() < 0.5


@st.composite
def surveys(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    """Coverages of free tiles and of labelled ones, and a confidence that may well depend on the coverage."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    free, labelled = draw(st.integers(0, 300)), draw(st.integers(1, 300))

    def some(count: int) -> Floats:
        empty = rng.random(count) < draw(st.floats(0, 1))
        shares = rng.beta(draw(st.sampled_from([0.5, 1, 3])), draw(st.sampled_from([0.5, 1, 3])), count)
        return np.where(empty, 0, np.rint(shares * PIXELS) / PIXELS)

    coverage = some(free)
    slope = draw(st.sampled_from([-0.1, 0.0, 0.1]))
    return coverage, some(labelled), np.clip(0.95 + slope * coverage + rng.normal(0, 0.005, free), 0, 1)


@settings(max_examples=150, deadline=None)
@given(surveys(), st.one_of(st.none(), st.integers(1, 200)))
def test_what_is_taken_keeps_to_the_quota(drawn: tuple[Floats, Floats, Floats], limit: int | None) -> None:
    coverage, prior, confidence = drawn
    tiles = candidates(
        len(coverage), area=np.rint(coverage * PIXELS).astype(np.int64), confidence=confidence, decided=confidence
    )
    config = PseudoConfig(decided=0.93, limit=limit, max_coverage=0.9)
    verdicts = select(tiles, prior, config)
    taken = verdicts == TAKEN
    free = refuse(tiles, config) == ""
    # Of the free ones only, never more than there are nor than the limit.
    assert not (taken & ~free).any()
    assert set(verdicts[free]) <= {TAKEN, "over its quota"}
    assert (verdicts[~free] == refuse(tiles, config)[~free]).all()
    assert limit is None or taken.sum() <= limit
    # The tiles that are really taken lie at the prior, not only their classes' means.
    if taken.any():
        assert abs(coverage[taken].mean() - prior.mean()) <= TOLERANCE * prior.mean() + 1e-12
    # Within a class the surest come first, and only classes that the labelled tiles have.
    classes, of_prior = size_classes(coverage), set(size_classes(prior).tolist())
    assert set(classes[taken].tolist()) <= of_prior
    for at in range(len(CLASS_EDGES) + 1):
        mine = free & (classes == at)
        if (mine & taken).any() and (mine & ~taken).any():
            assert confidence[mine & taken].min() >= confidence[mine & ~taken].max()
    # A greater limit never takes fewer.
    if limit is not None:
        more = select(tiles, prior, PseudoConfig(decided=0.93, limit=limit + 7, max_coverage=0.9)) == TAKEN
        assert more.sum() >= taken.sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 200), st.integers(0, 200))
def test_more_tiles_of_the_labelled_kind_never_give_fewer(seed: int, few: int, more: int) -> None:
    """Of tiles with the prior's own coverages all are taken but for the rounding of the classes."""
    rng = np.random.default_rng(seed)
    prior = np.where(rng.random(100) < 0.4, 0, rng.uniform(0.3, 0.39, 100))
    coverage = np.where(rng.random(few + more) < 0.4, 0, 0.35)
    prior[prior > 0] = 0.35
    counts = [len(quota(np.arange(count), coverage, prior, None)) for count in (few, few + more)]
    assert counts[1] >= counts[0]


def test_more_free_tiles_are_used_up_to_the_scarcest_class() -> None:
    prior = np.array([0.0] * 4 + [0.1] * 3 + [0.3] * 3)
    for copies in (1, 2, 5, 40):
        assert len(quota(np.arange(10 * copies), np.tile(prior, copies), prior, None)) == 10 * copies


def test_without_quotas_the_surest_are_taken() -> None:
    tiles = candidates(6, decided=[0.95, 0.99, 0.99, 0.91, 0.5, 0.97], confidence=[0.9, 0.95, 0.96, 0.9, 0.9, 0.9])
    verdicts = select(tiles, np.array([0.5]), PseudoConfig(quotas=False, limit=3)).tolist()
    assert verdicts == ["over the limit", TAKEN, TAKEN, "over the limit", "undecided", TAKEN]
    everything = select(tiles, np.array([0.5]), PseudoConfig(quotas=False)).tolist()
    assert everything.count(TAKEN) == 5


def test_nothing_fits_the_prior() -> None:
    verdicts = select(candidates(5, area=[9000] * 5), np.array([0.0, 0.05]), PseudoConfig())
    assert set(verdicts.tolist()) == {"over its quota"}
