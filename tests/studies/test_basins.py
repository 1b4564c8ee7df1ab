"""Small components told from basins are those that scipy's labelling finds, whatever the vote and the cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from semisalt.studies.basins import Basins, find_basins

HEIGHT, WIDTH = 13, 11
LEAST, MOST = 70, 190  # the range of cuts


def made_up(seed: int, tiles: int, voters: int, noise: int, width: float) -> NDArray[np.uint8]:
    """Maps [voters, tiles, H, W] that differ by `noise` grey levels, of structures `width` pixels wide."""
    generator = np.random.default_rng(seed)
    common = ndimage.gaussian_filter(generator.normal(size=(tiles, HEIGHT, WIDTH)), (0, width, width))
    common = 127 + 110 * common / max(common.std(), 1e-9)
    return np.clip(common + generator.uniform(-noise, noise, (voters, tiles, HEIGHT, WIDTH)), 0, 255).astype(np.uint8)


def slow(masks: NDArray[np.bool_], smallest: int, connectivity: int) -> NDArray[np.bool_]:
    """The pixels of components under `smallest` pixels."""
    structure = np.ones((3, 3)) if connectivity == 8 else None
    small = np.zeros_like(masks)
    for mask, found in zip(masks, small, strict=True):
        labels, count = ndimage.label(mask, structure)
        for label in range(1, count + 1):
            if np.sum(labels == label) < smallest:
                found[labels == label] = True
    return small


def build(maps: NDArray[np.uint8], truth: NDArray[np.uint8], connectivity: int) -> tuple[Basins, NDArray[np.int64]]:
    """The basins, and where the open pixels are."""
    always, never = (maps >= MOST).all(axis=0), (maps < LEAST).all(axis=0)
    spots = np.flatnonzero(~always & ~never)
    words = [word.ravel()[spots] for word in maps]
    return find_basins(words, spots, always.astype(np.uint8), truth, connectivity), spots


@given(
    seed=st.integers(0, 2**32 - 1),
    tiles=st.integers(1, 4),
    voters=st.integers(1, 4),
    noise=st.sampled_from([0, 5, 40, 200]),
    width=st.sampled_from([0.4, 1.0, 2.5, 6.0]),
    connectivity=st.sampled_from([4, 8]),
    smallest=st.integers(1, HEIGHT * WIDTH + 1),
    data=st.data(),
)
def test_small_components_and_counts_are_those_of_labelling(
    seed: int, tiles: int, voters: int, noise: int, width: float, connectivity: int, smallest: int, data: st.DataObject
) -> None:
    maps = made_up(seed, tiles, voters, noise, width)
    truth = (made_up(seed + 1, tiles, 1, 0, 2.0)[0] > 127).astype(np.uint8)
    basins, spots = build(maps, truth, connectivity)
    loudness = sorted(data.draw(st.lists(st.floats(0, 1), min_size=voters, max_size=voters)), reverse=True)
    weights = (np.array(loudness) + 1e-9) / sum(loudness, voters * 1e-9)
    cut = data.draw(st.integers(LEAST, MOST))
    total = np.zeros(truth.shape, np.float32)
    for weight, word in zip(weights[::-1], maps[::-1], strict=True):
        total += np.float32(weight) * word
    masks = np.rint(total) >= cut
    there = masks.ravel()[spots]
    counts = basins.count(there)

    areas = basins.per_tile(counts, tiles)
    assert areas[0].tolist() == masks.sum(axis=(1, 2)).tolist()
    assert areas[1].tolist() == (masks & (truth != 0)).sum(axis=(1, 2)).tolist()

    wanted = slow(masks, smallest, connectivity)
    small = basins.small(there, counts[0], smallest)
    of_small = basins.per_tile(counts, tiles, small)
    assert of_small[0].tolist() == wanted.sum(axis=(1, 2)).tolist()
    assert of_small[1].tolist() == (wanted & (truth != 0)).sum(axis=(1, 2)).tolist()
    blind = basins.counting_below(smallest)
    assert blind.small(there, blind.count(there)[0], smallest).tolist() == small.tolist()
    cleared = there.copy()
    cleared[basins.open_pixels(small)] = False
    assert cleared.tolist() == (masks & ~wanted).ravel()[spots].tolist()


def test_a_basin_holds_what_no_vote_can_part() -> None:
    row = np.array([[[80, 120, 100, 150, 95, 90]]], np.uint8)  # two peaks, with a valley between them
    basins, _ = build(np.stack([row]), np.zeros_like(row), 4)
    assert sorted(basins.count(np.ones(6, bool))[0].tolist()) == [2, 4]
    for cut, wanted in ((101, 2), (100, 0), (121, 1)):  # pixels in components of fewer than 3
        there = row.ravel() >= cut
        sizes = basins.count(there)[0]
        assert sizes[basins.small(there, sizes, 3)].sum() == wanted


@pytest.mark.parametrize(
    ("louder", "other", "basins"),
    [
        ([150, 100], [100, 150], 2),  # as loud as each other, and neither pixel is likelier
        ([100, 150], [160, 100], 2),  # the louder one alone leaves the right pixel, both alike the left
        ([150, 100], [100, 149], 1),  # whoever hears the louder one more, or both alike, finds the left likelier
        ([150, 100], [150, 100], 1),
    ],
)
def test_a_pixel_follows_its_neighbour_only_where_no_vote_parts_them(
    louder: list[int], other: list[int], basins: int
) -> None:
    maps = np.array([[[louder]], [[other]]], np.uint8)
    found, _ = build(maps, np.zeros((1, 1, 2), np.uint8), 4)
    assert len(found.tile) == basins
    if basins == 2:
        for there in ([True, False], [False, True]):
            sizes = found.count(np.array(there))[0]
            assert len(found.small(np.array(there), sizes, 2)) == 1


def test_basins_in_another_order_of_pixels_tell_the_same() -> None:
    maps = made_up(5, 3, 2, 40, 1.0)
    basins, spots = build(maps, np.ones(maps.shape[1:], np.uint8), 8)
    order = basins.pixels
    assert order is not None
    there = maps[0].ravel()[spots] > 120
    moved = basins.laid_out(order)
    counts, places = basins.count(there), np.append(there, False)[order]
    assert moved.pixels is None
    assert moved.count(places).tolist() == counts.tolist()
    small = basins.small(there, counts[0], 9)
    assert len(small) > 3
    assert moved.small(places, counts[0], 9).tolist() == small.tolist()
    assert sorted(order[moved.open_pixels(small)][places[moved.open_pixels(small)]]) == sorted(
        pixel for pixel in basins.open_pixels(small) if there[pixel]
    )


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_open(value: int) -> None:
    maps = np.full((2, 3, HEIGHT, WIDTH), value, np.uint8)
    basins, spots = build(maps, np.ones((3, HEIGHT, WIDTH), np.uint8), 8)
    assert len(spots) == 0
    counts = basins.count(np.zeros(0, bool))
    assert basins.per_tile(counts, 3).tolist() == [[value // 255 * HEIGHT * WIDTH] * 3] * 2
    assert len(basins.small(np.zeros(0, bool), counts[0], HEIGHT * WIDTH)) == 0
