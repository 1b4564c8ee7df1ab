import numpy as np
import pytest

from semisalt.mosaics import evidence, match
from semisalt.mosaics.assemble import assemble
from semisalt.mosaics.grid import Pairs
from tests.mosaics.surveys import judged, layered, synthetic


def pairs_set(pairs: Pairs) -> set[tuple[int, int, bool]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.below.tolist(), strict=True))


@pytest.mark.parametrize("seed", [5])
def test_true_neighbours_of_a_synthetic_survey_are_found(seed: int) -> None:
    images, places = synthetic(400, seed, (101, 101))
    matches = match.find(images)
    for below in (False, True):
        precision, recall = judged(matches.pairs, places, below)
        assert precision >= 0.999
        assert recall >= 0.95
    mosaics, _ = assemble(tuple(map(str, range(len(images)))), matches.pairs, matches.fit)
    for side, step in (("right", (0, 0, 1)), ("below", (0, 1, 0))):
        neighbour = mosaics.neighbours()[side]
        placed = np.flatnonzero(neighbour >= 0)
        np.testing.assert_array_equal(places[placed] + np.array(step), places[neighbour[placed]])
    assert (mosaics.mosaic[places[:, 0] < 0] == -1).all()


def test_rectangular_tiles_with_stretches_of_their_own() -> None:
    images, places = layered(3, (5, 6), (40, 56))
    pairs = match.find(images).pairs
    for below in (False, True):
        precision, recall = judged(pairs, places, below)
        assert precision == 1
        assert recall >= 0.95


def test_a_stretch_of_every_tile_changes_nothing_but_rounding() -> None:
    images, _ = layered(2, (4, 4), (48, 48))
    rng = np.random.default_rng(1)
    dimmed = np.rint(images * rng.uniform(0.5, 0.8, (len(images), 1, 1)) + 30).astype(np.uint8)
    assert pairs_set(match.find(images).pairs) == pairs_set(match.find(dimmed).pairs)


def test_blank_tiles_and_copies_are_left_out() -> None:
    images, places = layered(2, (4, 5), (48, 48))
    blank = np.zeros((3, 48, 48), np.uint8)
    even = np.full((2, 48, 48), 90, np.uint8)
    with_more = np.concatenate([images, blank, even, images[:4]])
    pairs = match.find(with_more).pairs
    assert max(pairs.first.max(), pairs.second.max()) < len(images)
    assert judged(pairs, places, below=False)[1] >= 0.9
    assert match.distinct(with_more).tolist() == [True] * len(images) + [False] * 9


def test_unrelated_tiles_one_tile_and_none_have_no_neighbours() -> None:
    unrelated, places = layered(60, (1, 1), (48, 48))
    assert len(match.find(unrelated).pairs) == 0
    assert len(match.find(unrelated[:1]).pairs) == 0
    assert len(match.find(unrelated[:0]).pairs) == 0
    assert len(match.find(np.zeros((4, 48, 48), np.uint8)).pairs) == 0
    assert len(places) == 60


def test_quiet_borders_match_nothing() -> None:
    images, places = layered(2, (3, 4), (48, 48))
    top = places[:, 1] == 1
    images[top, :6] = images[top, :6].mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    pairs = match.find(images).pairs
    assert len(pairs) > 0
    assert not np.isin(pairs.second[pairs.below], np.flatnonzero(top)).any()
    matches = match.find(images)
    tile = np.flatnonzero(top)[:1]
    assert matches.fit((tile + 1) % len(images), tile, np.array([True])).tolist() == [0.0]


def test_too_small_tiles_are_an_error() -> None:
    with pytest.raises(ValueError, match="8 a side"):
        match.find(np.zeros((3, 7, 20), np.uint8))


def test_candidates_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = layered(2, (3, 4), (32, 40))
    monkeypatch.setattr(evidence, "BLOCK", 5)
    monkeypatch.setattr(evidence, "TILES_A_LEVEL", 11)
    usable = np.ones(len(images), np.bool_)
    usable[7] = False
    edges = evidence.read_edges(images, "right", usable)
    assert edges.levels == 2
    nothing = np.empty(0, np.int64)
    found = evidence.Evidence(edges, nothing, nothing)
    expected = set()
    for first_side, levels in ((True, edges.level_before), (False, edges.level_after)):
        for tile in np.flatnonzero(usable):
            model = found.models[levels[tile]]
            before, bias = model.features(edges.before, before=True)
            after, bias_after = model.features(edges.after, before=False)
            whole = before.astype(np.float64) @ after.T + bias[:, None] + bias_after
            ratios = whole[tile] if first_side else whole[:, tile]
            ratios = np.where(usable, ratios, -np.inf)
            ratios[tile] = -np.inf
            best = [other for other in np.argsort(-ratios)[:3] if ratios[other] >= ratios.max() - 15]
            expected |= {(int(tile), int(o)) if first_side else (int(o), int(tile)) for o in best}
    first, second = found.search(15.0, 3)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
