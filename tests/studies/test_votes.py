"""Scores of operating points and ways of voting, against slow arithmetic that shares no code with them."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from semisalt.inference.threshold import Operating
from semisalt.studies import votes as module
from semisalt.studies.views import FoldViews
from semisalt.studies.votes import Votes, Voting, whole_scores

VOTERS = 3


def smooth(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Maps with islands and holes of all sizes."""
    noise = ndimage.gaussian_filter(generator.normal(size=shape), (0, 1.5, 1.5))
    return np.clip(127 + 220 * noise + generator.normal(0, 90, (shape[0], 1, 1)), 0, 255).astype(np.uint8)


def voters(generator: np.random.Generator, count: int) -> dict[tuple[bool, int], NDArray[np.uint8]]:
    """Three voters, plain and mirrored, who mostly agree."""
    word = smooth(generator, (count, 24, 20)).astype(int)
    spread = ((flip, voter) for flip in (False, True) for voter in range(VOTERS))
    return {key: np.clip(word + generator.integers(-40, 41, word.shape), 0, 255).astype(np.uint8) for key in spread}


def slow_score(
    maps: dict[tuple[bool, int], NDArray[np.uint8]],
    weights: dict[int, float],
    flip: bool,
    operating: Operating,
    truth: NDArray[np.uint8],
) -> list[float]:
    """Tile by tile: vote, round, cut, drop islands, fill holes, count the ten IoU levels."""
    scores = []
    for tile in range(len(truth)):
        total = sum(np.float32(weight) * maps[flip, voter][tile] for voter, weight in weights.items())
        salt = np.rint(total) / 255 > operating.threshold
        islands, _ = ndimage.label(salt, np.ones((3, 3)))
        for island in range(1, islands.max() + 1):
            if np.sum(islands == island) < operating.min_salt:
                salt[islands == island] = False
        if salt.any():
            holes, _ = ndimage.label(~salt)
            for hole in range(1, holes.max() + 1):
                if np.sum(holes == hole) < operating.min_hole:
                    salt[holes == hole] = True
        true = truth[tile] > 0
        if not true.any() or not salt.any():
            scores.append(float(true.any() == salt.any()))
            continue
        iou = np.sum(true & salt) / np.sum(true | salt)
        scores.append(sum(iou > 0.5 + 0.05 * level for level in range(10)) / 10)
    return scores


@pytest.fixture(scope="module")
def world() -> tuple[list[FoldViews], NDArray[np.uint8], NDArray[np.bool_]]:
    """Two folds of 150 and 40 tiles, a third of the tiles not scored."""
    generator = np.random.default_rng(0)
    views = [
        FoldViews(part, voters(generator, part.stop - part.start), None) for part in (slice(0, 150), slice(150, 190))
    ]
    truth = np.concatenate([(view.maps[False, 0] > 130).astype(np.uint8) for view in views])
    truth[::7] = 0
    return views, truth, generator.random(190) > 1 / 3


def test_scores_are_those_of_slow_arithmetic(
    world: tuple[list[FoldViews], NDArray[np.uint8], NDArray[np.bool_]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 64)
    views, truth, chosen = world
    votes = Votes(views, truth, chosen, (0.25, 0.75), 29, 29)
    generator = np.random.default_rng(1)
    different = set()
    for trial in range(12):
        voting = Voting(int(generator.integers(1, 4)), float(generator.uniform(0.5, 1)), bool(generator.integers(2)))
        ends = (0.25, 0.5, 0.75)  # the range's own ends, too
        threshold = ends[trial] if trial < 3 else float(generator.uniform(0.25, 0.75))
        operating = Operating(threshold, int(generator.integers(0, 30)), int(generator.integers(0, 30)))
        wanted = []
        for view in views:
            inside = chosen[view.tiles]
            maps = {key: values[inside] for key, values in view.maps.items()}
            loud = [voting.decay**age for age in range(voting.keep)]
            weights = {VOTERS - 1 - age: value / sum(loud) for age, value in reversed(list(enumerate(loud)))}
            wanted += slow_score(maps, weights, voting.flip, operating, truth[view.tiles][inside])
        scores = votes.scores(voting, operating)
        assert scores.tolist() == pytest.approx(wanted, abs=1e-12)
        assert np.array_equal(whole_scores(views, truth, chosen, voting, operating), scores)
        different.add(round(float(scores.mean()), 6))
    assert len(different) > 6  # the points are not all alike
    assert votes.count == chosen.sum()


def test_halves_are_rounded_as_everywhere_else() -> None:
    """Planted: two voters as loud as each other whose mean is the least value over the threshold, less a half."""
    for least in (127, 128):  # an odd and an even number: a half is rounded to the even one
        maps = {(False, 0): np.full((1, 6, 6), least - 1, np.uint8), (False, 1): np.full((1, 6, 6), least, np.uint8)}
        maps[False, 1][0, 0, 0] = 255  # what is decided must not decide the rest
        views, truth = [FoldViews(slice(0, 1), maps, None)], np.ones((1, 6, 6), np.uint8)
        voting, operating = Voting(2, 1.0, False), Operating((least - 0.5) / 255)
        votes = Votes(views, truth, np.ones(1, bool), (0.25, 0.75), 0, 0)
        wanted = 1.0 if np.rint(least - 0.5) == least else 0.0
        assert votes.scores(voting, operating).tolist() == [wanted]
        assert whole_scores(views, truth, np.ones(1, bool), voting, operating).tolist() == [wanted]


@pytest.mark.parametrize(
    "operating", [Operating(0.39), Operating(0.61), Operating(0.5, min_salt=11), Operating(0.5, min_hole=11)]
)
def test_points_outside_the_space_are_refused(
    world: tuple[list[FoldViews], NDArray[np.uint8], NDArray[np.bool_]], operating: Operating
) -> None:
    votes = Votes(*world, (0.4, 0.6), 10, 10)
    with pytest.raises(ValueError, match="outside"):
        votes.scores(Voting(3, 1.0, False), operating)


def test_tiles_of_one_kind(world: tuple[list[FoldViews], NDArray[np.uint8], NDArray[np.bool_]]) -> None:
    """Planted: voters who say nothing of any tile, who say salt everywhere, and a fold of which no tile is scored."""
    views, truth, _ = world
    first = views[0].tiles
    chosen = np.arange(len(truth)) < first.stop
    operating = Operating(0.5, 40, 24 * 20 + 1)
    for value in (0, 255):
        maps = {key: np.full_like(words, value) for key, words in views[0].maps.items()}
        votes = Votes([FoldViews(first, maps, None), views[1]], truth, chosen, (0.25, 0.75), 40, 24 * 20 + 1)
        wanted = slow_score(maps, {VOTERS - 1: 1.0}, True, operating, truth[first])
        assert votes.scores(Voting(1, 0.5, True), operating).tolist() == pytest.approx(wanted, abs=1e-12)
        assert len(set(wanted)) > 1


def test_fixed_voters_are_heard_as_the_run_has_them(
    world: tuple[list[FoldViews], NDArray[np.uint8], NDArray[np.bool_]],
) -> None:
    views, truth, _ = world
    everything = np.ones(len(truth), np.bool_)
    fixed = [FoldViews(view.tiles, view.maps, (0.2, 0.3, 0.5)) for view in views]
    scores = Votes(fixed, truth, everything, (0.25, 0.75), 0, 0).scores(Voting(1, 0.5, True), Operating(0.45))
    wanted = [
        score
        for view in views
        for score in slow_score(view.maps, {0: 0.2, 1: 0.3, 2: 0.5}, True, Operating(0.45), truth[view.tiles])
    ]
    assert scores.tolist() == pytest.approx(wanted, abs=1e-12)
