import multiprocessing

import numpy as np
import pytest
from numpy.typing import NDArray

from semisalt.config import AugmentConfig
from semisalt.data.augment import random_view, sample_seed

Pixels = NDArray[np.uint8]
EVERYTHING = AugmentConfig(flip=0.5, affine=1.0, light=1.0, blur=1.0)
GEOMETRY = AugmentConfig(light=0, blur=0)
SEEDS = range(200)


def tile(seed: int = 0) -> tuple[Pixels, Pixels]:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (48, 40), dtype=np.uint8)
    return image, (generator.random((48, 40)) < 0.5).astype(np.uint8)


def test_view_depends_on_the_seed_alone() -> None:
    image, mask = tile()
    first = random_view(EVERYTHING)
    forward = {seed: first(image, mask, seed) for seed in SEEDS}
    second = random_view(EVERYTHING)
    second(*tile(1), 5)
    for seed in reversed(SEEDS):
        np.random.seed(seed)  # noqa: NPY002  # nobody's global state matters
        for found, expected in zip(second(image, mask, seed), forward[seed], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len({view[0].tobytes() for view in forward.values()}) == len(SEEDS)


def _views(seeds: list[int]) -> list[tuple[Pixels, Pixels]]:
    view = random_view(EVERYTHING)
    return [view(*tile(), seed) for seed in seeds]


def test_view_is_the_same_in_another_process() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map(_views, [[3, 4], [9]])
    for found, expected in zip([*there[0], *there[1]], _views([3, 4, 9]), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_never_upside_down() -> None:
    """Top dark, bottom bright, and it stays so in every view; left and right do change places."""
    rows = np.repeat(np.linspace(0, 255, 48)[:, None], 48, axis=1).astype(np.uint8)
    columns = np.ascontiguousarray(rows.T)
    view = random_view(EVERYTHING)
    mirrored = 0
    for seed in SEEDS:
        seen, mask = view(rows, (rows > 127).astype(np.uint8), seed)
        assert seen[32:].mean() > seen[:16].mean() + 30
        assert mask[32:].mean() > mask[:16].mean()
        seen, _ = view(columns, columns, seed)
        mirrored += int(seen[:, 32:].mean() < seen[:, :16].mean())
    assert 0.4 < mirrored / len(SEEDS) < 0.6


def test_image_and_mask_share_their_geometry() -> None:
    """A mask given as the image, too, comes back as the mask, but for pixels that the interpolation blurs."""
    blob = np.zeros((64, 64), np.uint8)
    blob[20:50, 8:30] = 1
    view = random_view(GEOMETRY)
    changed = 0
    for seed in SEEDS:
        seen, mask = view(blob * np.uint8(255), blob, seed)
        assert np.count_nonzero((seen > 127) != mask) <= 0.05 * blob.sum()
        assert set(np.unique(mask)) <= {0, 1}
        changed += not np.array_equal(mask, blob)
    assert changed > 0.6 * len(SEEDS)


def test_light_changes_the_image_and_leaves_the_mask() -> None:
    image, mask = tile()
    view = random_view(AugmentConfig(flip=0, affine=0, light=1, blur=1))
    for seed in range(20):
        seen, kept = view(image, mask, seed)
        np.testing.assert_array_equal(kept, mask)
        assert not np.array_equal(seen, image)


def test_nothing_asked_for_changes_nothing() -> None:
    image, mask = tile()
    view = random_view(AugmentConfig(flip=0, affine=0, light=0, blur=0))
    for found, expected in zip(view(image, mask, 3), (image, mask), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert image.dtype == np.uint8


def test_view_keeps_shape_and_type_and_mirrors_at_the_edge() -> None:
    """White stays white: nothing black comes in from outside the tile."""
    white = np.full((33, 70), 255, np.uint8)
    view = random_view(AugmentConfig(affine=1, light=0, blur=0, shift=0.3, rotate=30))
    for seed in range(50):
        image, mask = view(white, np.ones_like(white), seed)
        assert image.shape == mask.shape == (33, 70)
        assert image.dtype == mask.dtype == np.uint8
        assert image.min() == 255
        assert mask.min() == 1


@pytest.mark.parametrize(("scale", "shift"), [(0.2, 0.0), (0.0, 0.1)])
def test_scale_and_shift_stay_within_their_range(scale: float, shift: float) -> None:
    """A centred square of 40 px keeps a side of 40 · (1 ± scale) and a centre within shift · 100 px."""
    square = np.zeros((100, 100), np.uint8)
    square[30:70, 30:70] = 1
    view = random_view(AugmentConfig(flip=0, affine=1, light=0, blur=0, rotate=0, scale=scale, shift=shift))
    sides, centres = [], []
    for seed in SEEDS:
        _, mask = view(square * np.uint8(200), square, seed)
        rows, columns = np.nonzero(mask)
        sides.append(np.sqrt(len(rows)))
        centres.append(max(abs(rows.mean() - 49.5), abs(columns.mean() - 49.5)))
    assert 40 * (1 - scale) - 1 <= min(sides) <= 40 * (1 - 0.8 * scale) + 1
    assert 40 * (1 + 0.8 * scale) - 1 <= max(sides) <= 40 * (1 + scale) + 1
    assert 0.8 * shift * 100 - 1 <= max(centres) <= shift * 100 + 1


def test_sample_seeds_differ_by_run_epoch_and_tile() -> None:
    seeds = {sample_seed(s, e, i) for s in range(4) for e in range(20) for i in range(100)}
    assert len(seeds) > 0.999 * 8000  # of 2**32, two may meet by chance
    assert sample_seed(1, 2, 3) == sample_seed(1, 2, 3)
    assert sample_seed(1, 2, 3) != sample_seed(1, 3, 2)
