"""Gains and offsets that are known are found again."""

import cv2
import numpy as np
import pytest

from semisalt.mosaics.amplitude import OPPOSITE, balance, between, facing, fit
from tests.mosaics.worlds import mosaics_of


def smooth(shape, seed=0):
    """Smooth noise over 60 … 190."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape), (0, 0), 6)
    return 60 + 130 * (noise - noise.min()) / np.ptp(noise)


def test_the_line_between_by_hand():
    image = np.array([[10, 20, 40], [13, 14, 100]], np.uint8)
    assert between(image, "above").tolist() == [8.5, 23, 10]
    assert between(image, "below").tolist() == [14.5, 11, 130]
    assert between(image, "left").tolist() == [5, 12.5]
    assert between(image, "right").tolist() == [50, 143]


def test_facing_is_a_view_that_leads_inwards():
    maps = np.arange(24).reshape(2, 3, 4)
    assert facing(maps, "above")[1, 0].tolist() == [12, 13, 14, 15]
    assert facing(maps, "below")[1, 0].tolist() == [20, 21, 22, 23]
    assert facing(maps, "left")[1, 0].tolist() == [12, 16, 20]
    assert facing(maps, "right")[1, 1].tolist() == [14, 18, 22]
    assert all(np.shares_memory(facing(maps, side), maps) for side in OPPOSITE)


@pytest.mark.parametrize(("side", "cut"), [("right", np.s_[:, 40:]), ("below", np.s_[40:])])
def test_a_known_stretch_is_found(side, cut):
    whole = smooth((40, 80) if side == "right" else (80, 40))
    own = np.rint(whole[:, :40] if side == "right" else whole[:40]).astype(np.uint8)
    neighbour = np.rint((whole[cut] - 50) / 0.7).astype(np.uint8)
    gain, offset = fit(own, neighbour, side)
    assert gain == pytest.approx(0.7, rel=0.05)
    assert gain * neighbour.mean() + offset == pytest.approx(whole[cut].mean(), abs=2)
    back_gain, back_offset = fit(neighbour, own, OPPOSITE[side])
    assert back_gain == pytest.approx(1 / gain)
    assert back_offset == pytest.approx(-offset / gain, abs=1e-3)


def test_a_border_without_contrast_has_no_gain():
    flat, wavy = np.full((8, 8), 40, np.uint8), smooth((8, 8)).astype(np.uint8)
    gain, offset = fit(flat, wavy, "right")
    assert gain == 1
    assert offset == pytest.approx(40 - float(between(wavy, "left").mean()))


def test_a_mosaic_of_stretched_tiles_is_balanced():
    generator = np.random.default_rng(3)
    whole = smooth((120, 160), seed=1) / 3 + np.linspace(0, 120, 160)  # brighter to the right
    grid = np.arange(12).reshape(3, 4)
    grid[0, 3] = -1
    images = np.zeros((14, 40, 40), np.uint8)  # the last two lie in no mosaic
    for (row, column), tile in np.ndenumerate(grid):
        if tile >= 0:
            part = whole[40 * row : 40 * row + 40, 40 * column : 40 * column + 40]
            images[tile] = np.rint((part - part.min()) * 255 / np.ptp(part) * generator.uniform(0.25, 1) + 1)
    found = balance(mosaics_of([grid], 14), images, 0)
    assert set(found) == set(grid[grid >= 0])
    assert np.mean(np.log([gain for gain, _ in found.values()])) == pytest.approx(0, abs=1e-9)
    # Up to one gain and one offset for all it is the section again.
    pairs = []
    for (row, column), tile in np.ndenumerate(grid):
        if tile >= 0:
            gain, offset = found[tile]
            part = whole[40 * row : 40 * row + 40, 40 * column : 40 * column + 40]
            pairs.append((gain * images[tile] + offset, part))
    balanced, truth = (np.stack(part).ravel() for part in zip(*pairs, strict=True))
    assert np.corrcoef(balanced, truth)[0, 1] > 0.995
    raw = np.concatenate([images[tile].ravel() for tile in grid[grid >= 0]])
    assert np.corrcoef(raw, truth)[0, 1] < 0.9
