"""Pictures on disk."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.inference.outputs import Prediction
from semisalt.inference.threshold import Operating
from semisalt.report import maps
from semisalt.report.maps import oof_overview, overview, uncertainty, worst_first, write_maps


def predictions(count, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (count, 9, 7), np.uint8)
    return [f"tile {k}" for k in range(count)], values, (values > 150).astype(np.uint8)


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_maps_are_written_whole(tmp_path):
    ids, values, masks = predictions(30)
    assert write_maps(tmp_path, ids, values, masks) == 30
    for index, tile in enumerate(ids):
        assert (read(tmp_path / "probability" / f"{tile}.png") == values[index]).all()
        assert (read(tmp_path / "mask" / f"{tile}.png") == np.where(values[index] > 150, 255, 0)).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_stale_maps_vanish_and_other_files_stay(tmp_path):
    write_maps(tmp_path, *predictions(5))
    (tmp_path / "fold0.npy").write_text("kept")
    (tmp_path / ".maps.tmp" / "mask").mkdir(parents=True)
    (tmp_path / ".maps.tmp" / "mask" / "of a killed call.png").write_text("")
    ids, values, masks = predictions(3, seed=1)
    write_maps(tmp_path, ids[1:], values[1:], masks[1:])
    kept = [f"{folder}/tile {k}.png" for folder in ("mask", "probability") for k in (1, 2)]
    assert names(tmp_path) == ["fold0.npy", *kept]
    assert (read(tmp_path / "probability" / "tile 2.png") == values[2]).all()


def test_a_call_that_fails_leaves_the_old_maps(tmp_path, monkeypatch):
    ids, values, masks = predictions(5)
    write_maps(tmp_path, ids, values, masks)
    encode, calls = maps._png, []

    def full_disk(image):
        calls.append(image)
        if len(calls) > 4:
            raise OSError("no space left")
        return encode(image)

    monkeypatch.setattr(maps, "_png", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_maps(tmp_path, ids[:4], 255 - values[:4], masks[:4])
    assert len(names(tmp_path)) == 10
    assert (read(tmp_path / "probability" / "tile 0.png") == values[0]).all()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("bad", ["../x", "a/b", "a\\b", "..", ".", "", "nul\0", "tile 1"])
def test_ids_that_lead_elsewhere_are_refused(tmp_path, bad):
    ids, values, masks = predictions(4)
    with pytest.raises(UserError) as caught:
        write_maps(tmp_path / "out", [bad, *ids[1:3], "/root"], values, masks)
    assert repr(bad) in str(caught.value)
    assert "'/root'" in str(caught.value)
    assert not list(tmp_path.rglob("*"))


def test_unequal_parts_are_refused(tmp_path):
    ids, values, masks = predictions(4)
    with pytest.raises(ValueError, match="3 ids"):
        write_maps(tmp_path, ids[:3], values, masks)


@settings(max_examples=40)
@given(hnp.arrays(np.uint8, (2, 6, 3, 4), elements=st.integers(0, 1)))
def test_ranking_by_score_then_iou_then_wrong_pixels(pair):
    def key(prediction, truth):
        union, wrong = int((prediction | truth).sum()), int((prediction != truth).sum())
        iou = Fraction(int((prediction & truth).sum()), union) if union else Fraction(1)
        return sum(iou > Fraction(level, 20) for level in range(10, 20)) if union else 10, iou, -wrong

    keys = [key(p, t) for p, t in zip(*pair, strict=True)]
    order = worst_first(*pair)
    assert sorted(order.tolist()) == list(range(6))
    assert [keys[k] for k in order] == sorted(keys)


def test_uncertainty_is_the_mean_entropy():
    values = np.random.default_rng(1).integers(0, 256, (4, 5, 6), np.uint8)
    values[0], values[1], values[2] = 0, 255, 127
    p = values / 255
    expected = stats.entropy(np.stack([p, 1 - p]), base=2, axis=0).mean(axis=(1, 2))
    assert uncertainty(values) == pytest.approx(expected, abs=1e-6)
    assert uncertainty(values)[:2].tolist() == [0, 0]


@pytest.fixture
def captions(monkeypatch):
    """What the sheets' captions say, by the sheets' titles."""
    seen, draw = {}, maps.sheet

    def spy(pictures, texts, columns, **options):
        seen[options["title"]] = (texts, options.get("legend"))
        return draw(pictures, texts, columns, **options)

    monkeypatch.setattr(maps, "sheet", spy)
    return seen


def test_the_overview_shows_the_unsure_and_random_others_but_no_blank_tiles(tmp_path, run, captions):
    rng = np.random.default_rng(3)
    images = rng.integers(1, 256, (40, 20, 24), np.uint8)
    images[30:] = 0
    values = rng.choice(np.array([0, 255], np.uint8), (40, 20, 24))
    unsure = rng.permutation(30)[:12]
    values[unsure, :10] = 128
    values[30:] = 128
    tiles = TileSet(tuple(f"u{k}" for k in range(40)), images, None, None)
    shown = []
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        overview(run, Prediction(tiles, values, (values > 127).astype(np.uint8), Operating(0.46, 0, 0)), path)
        (first, second), legends = zip(*captions.values(), strict=True)
        assert all("at threshold 0.46" in title for title in captions)
        shown.append([text.split()[0] for text in first + second])
        assert set(legends) == {("prediction",)}
    assert shown[0] == shown[1]
    assert set(shown[0][:12]) == {f"u{k}" for k in unsure}
    assert len(set(shown[0])) == 24
    assert not set(shown[0]) & {f"u{k}" for k in range(30, 40)}
    assert (read(tmp_path / "a.png") == read(tmp_path / "b.png")).all()


@pytest.mark.parametrize("count", [0, 1, 5, 13])
def test_an_overview_of_few_tiles(tmp_path, run, count, labelled):
    tiles = labelled.subset(np.arange(count))
    prediction = Prediction(tiles, tiles.masks * np.uint8(200), tiles.masks, Operating(0.5, 0, 0))
    overview(run, prediction, tmp_path / "few.png")
    assert read(tmp_path / "few.png").size > 0


def test_out_of_fold_tiles_from_worst_to_best(tmp_path, run, labelled, captions):
    oof_overview(run, labelled, tmp_path / "oof.png")
    worst, median, best = ([text.split()[0] for text in texts] for texts, _ in captions.values())
    # t012 has 120 wrong pixels, t007 (salt in rows 4 … 14, columns 3 … 19) has 187.
    assert worst[:2] == ["t007", "t012"]
    assert len({*worst, *median, *best}) == 18
    correctly_empty = {tile for tile, mask in zip(labelled.ids, labelled.masks, strict=True) if not mask.any()} - {
        "t012"
    }
    assert not correctly_empty & {*worst, *median, *best}
    scores = [float(text.split()[2]) for texts, _ in captions.values() for text in texts]
    assert scores == sorted(scores)
    assert read(tmp_path / "oof.png").shape[2] == 3
