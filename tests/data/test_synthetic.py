"""The synthetic survey: its files, its geometry, its physics."""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from semisalt.data.geology import line_through
from semisalt.data.imaging import image, ricker
from semisalt.data.read import load_survey
from semisalt.data.synthetic import LINES_PER_CUBE, cells, draw_model, write_survey
from semisalt.errors import UserError

TILES = 240


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("survey") / "a"
    write_survey(out, tiles=TILES, labelled=0.25, seed=3)
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def picture(folder: Path, row: dict[str, str]) -> NDArray[np.uint8]:
    part = "train" if row["labelled"] == "1" else "test"
    pixels = cv2.imread(str(folder / part / "images" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.dtype == np.uint8
    return np.asarray(pixels[..., 0], np.uint8)


def painted(rle: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixel by pixel, as the competition's page defines run lengths."""
    mask = np.zeros(shape, bool)
    numbers = [int(word) for word in rle.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            mask[pixel % shape[0], pixel // shape[0]] = True
    return mask


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_other_seed_other_survey(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_survey(tmp_path / name, tiles=30, seed=seed, shape=(64, 64))
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert first == again
    images = {value for name, value in first.items() if "images" in name}
    shared = images & set(other.values())
    assert len(shared) <= 1  # blank tiles alone
    assert not {name for name in first if name.endswith(".png")} & set(other)


def test_layout_is_the_competitions(survey: Path) -> None:
    truth = table(survey / "truth.csv")
    ids = [row["id"] for row in truth]
    assert len(set(ids)) == TILES
    assert all(len(name) == 10 and int(name, 16) >= 0 for name in ids)
    labelled = {row["id"] for row in truth if row["labelled"] == "1"}
    assert len(labelled) == 60
    assert {path.stem for path in (survey / "train/images").iterdir()} == labelled
    assert {path.stem for path in (survey / "train/masks").iterdir()} == labelled
    assert {path.stem for path in (survey / "test/images").iterdir()} == set(ids) - labelled
    assert {row["id"] for row in table(survey / "train.csv")} == labelled
    sample = table(survey / "sample_submission.csv")
    assert [row["id"] for row in sample] == sorted(set(ids) - labelled)
    assert {row["rle_mask"] for row in sample} == {"1 1"}
    depths = table(survey / "depths.csv")
    assert {row["id"] for row in depths} == set(ids)
    assert all(50 <= int(row["z"]) <= 960 for row in depths)
    assert [path.name for path in survey.parent.iterdir()] == [survey.name]  # no temporary folder left


def test_readers_take_it_and_ignore_the_truth(survey: Path) -> None:
    loaded = load_survey(survey, cache=None)
    assert len(loaded.labelled) == 60
    assert len(loaded.unlabelled) == TILES - 60
    assert loaded.labelled.shape == (101, 101)
    assert loaded.depth_range is not None


def test_masks_on_disk_equal_the_run_lengths(survey: Path) -> None:
    runs = {row["id"]: row["rle_mask"] for row in table(survey / "train.csv")}
    for row in table(survey / "truth.csv"):
        if row["labelled"] == "0":
            continue
        png = cv2.imread(str(survey / "train/masks" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        assert png is not None
        assert png.dtype == np.uint16
        assert set(np.unique(png)) <= {0, 65535}
        np.testing.assert_array_equal(png > 0, painted(row["rle_mask"], (101, 101)))
        assert runs[row["id"]] == row["rle_mask"]


def test_shares_of_empty_blank_and_full_tiles(survey: Path) -> None:
    truth = table(survey / "truth.csv")
    coverage = np.array([painted(row["rle_mask"], (101, 101)).mean() for row in truth])
    blank = [row for row in truth if not picture(survey, row).any()]
    assert np.mean(coverage == 0) == pytest.approx(0.39, abs=0.02)
    assert coverage.max() < 1
    assert len(blank) == pytest.approx(0.02 * TILES, abs=1)
    assert all(row[name] == "" for row in blank for name in ("rle_mask", "section", "left", "right", "up", "down"))
    salted = coverage[coverage > 0]
    assert np.all(np.histogram(salted, bins=5, range=(0, 1))[0] > 0.05 * len(salted))


def test_most_tiles_use_all_grey_levels(survey: Path) -> None:
    pixels = [picture(survey, row) for row in table(survey / "truth.csv") if row["section"]]
    full = np.mean([tile.min() == 0 and tile.max() == 255 for tile in pixels])
    assert 0.85 < full < 0.99


def border_correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Correlation of two borders, which no linear stretch changes."""
    pair = np.corrcoef(one.astype(float), other.astype(float))
    return float(pair[0, 1])


def test_true_neighbours_join(survey: Path) -> None:
    truth = {row["id"]: row for row in table(survey / "truth.csv")}
    across, down = [], []
    pixels = {name: picture(survey, row) for name, row in truth.items()}
    for name, row in truth.items():
        if row["right"]:
            assert truth[row["right"]]["left"] == name
            assert truth[row["right"]]["section"] == row["section"]
            assert truth[row["right"]]["row"] == row["row"]
            assert int(truth[row["right"]]["column"]) == int(row["column"]) + 1
            across.append((pixels[name][:, -1], pixels[row["right"]][:, 0]))
        if row["down"]:
            assert truth[row["down"]]["up"] == name
            assert truth[row["down"]]["column"] == row["column"]
            assert int(truth[row["down"]]["row"]) == int(row["row"]) + 1
            down.append((pixels[name][-1], pixels[row["down"]][0]))
    for pairs in (across, down):
        pairs = [(a, b) for a, b in pairs if a.std() > 0 and b.std() > 0]
        assert len(pairs) > 40
        joined = [border_correlation(a, b) for a, b in pairs]
        strangers = [border_correlation(a, b) for (a, _), (_, b) in zip(pairs, pairs[7:], strict=False)]
        assert np.median(joined) > 0.8
        assert abs(np.median(strangers)) < 0.25


def test_every_tile_with_a_neighbour_in_the_survey_names_it(survey: Path) -> None:
    truth = [row for row in table(survey / "truth.csv") if row["section"]]
    place = {(row["section"], int(row["row"]), int(row["column"])): row["id"] for row in truth}
    for row in truth:
        section, r, c = row["section"], int(row["row"]), int(row["column"])
        assert row["left"] == place.get((section, r, c - 1), "")
        assert row["up"] == place.get((section, r - 1, c), "")


def test_depths_follow_sections(survey: Path) -> None:
    depth = {row["id"]: float(row["z"]) for row in table(survey / "depths.csv")}
    truth = [row for row in table(survey / "truth.csv") if row["section"]]
    sections = np.array([int(row["section"]) for row in truth])
    z = np.array([depth[row["id"]] for row in truth])
    means = np.array([z[sections == section].mean() for section in np.unique(sections)])
    within = np.mean([z[sections == section].var() for section in np.unique(sections)])
    assert within < z.var()
    assert means.std() > 0


@pytest.mark.parametrize(("labelled", "expected"), [(0.5, 10), (7, 7), (0, 0), (1.0, 20), (1, 1)])
def test_labelled_is_a_share_or_a_count(tmp_path: Path, labelled: float | int, expected: int) -> None:
    write_survey(tmp_path / "out", tiles=20, labelled=labelled, seed=1, shape=(40, 40))
    assert len(table(tmp_path / "out" / "train.csv")) == expected
    assert len(table(tmp_path / "out" / "sample_submission.csv")) == 20 - expected


def test_rectangular_tiles(tmp_path: Path) -> None:
    write_survey(tmp_path / "out", tiles=12, seed=2, shape=(48, 80))
    for row in table(tmp_path / "out" / "truth.csv"):
        assert picture(tmp_path / "out", row).shape == (48, 80)
    loaded = load_survey(tmp_path / "out", cache=None)
    assert loaded.labelled.masks is not None
    names = dict(zip(loaded.labelled.ids, loaded.labelled.masks, strict=True))
    for row in table(tmp_path / "out" / "train.csv"):
        np.testing.assert_array_equal(names[row["id"]], painted(row["rle_mask"], (48, 80)))


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        write_survey(tmp_path, tiles=4)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    "wrong",
    [{"tiles": 0}, {"labelled": 1.5}, {"labelled": 21}, {"labelled": -1}, {"shape": (8, 101)}, {"seed": -1}],
)
def test_refuses_arguments_out_of_range(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        write_survey(tmp_path / "out", **{"tiles": 20, **wrong})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_crash_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: NDArray[np.uint8]) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("semisalt.data.synthetic.encode", broken)
    with pytest.raises(OSError, match="disk full"):
        write_survey(tmp_path / "out", tiles=4, shape=(32, 32))
    assert not list(tmp_path.iterdir())


def test_salt_is_quieter_inside_than_sediments() -> None:
    ratios = []
    for cube in range(6):
        earth, plan = draw_model(11, cube, (505, 808))
        plane = line_through(earth, 0)
        section = image(plane, plan, 0, np.random.default_rng(cube))
        core = plane.distance < -15  # the reflection of the boundary itself reaches some pixels inwards
        sediment = ~plane.water & (plane.distance > 15)
        ratios.append(np.square(section[core]).mean() / np.square(section[sediment]).mean())
    assert np.mean(ratios) < 0.5


def test_salt_top_is_a_bright_reflector() -> None:
    ratios = []
    for cube in range(6):
        earth, plan = draw_model(12, cube, (505, 808))
        plane = line_through(earth, 0)
        section = np.abs(image(plane, plan, 0, np.random.default_rng(cube)))
        top = plane.salt & ~np.roll(plane.salt, 1, axis=0)
        top[0] = False
        loud = ndimage.maximum_filter(section, size=(15, 1))
        ratios.append(loud[top].mean() / loud[~plane.water & (np.abs(plane.distance) > 30)].mean())
    assert np.median(ratios) > 1.3


def test_neighbouring_lines_look_alike() -> None:
    earth, _ = draw_model(4, 0, (505, 808))
    base, near = line_through(earth, 0), line_through(earth, 1)
    other = line_through(draw_model(4, 1, (505, 808))[0], 0)

    def agreement(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
        return float((a & b).sum() / (a | b).sum())

    assert agreement(base.salt, near.salt) > 0.5
    assert agreement(base.salt, near.salt) > agreement(base.salt, other.salt)
    assert LINES_PER_CUBE > 1


def test_tiles_tessellate_their_section() -> None:
    first = next(cells(9, (101, 101)))
    earth, _ = draw_model(9, 0, (505, 808))
    salt = line_through(earth, 0).salt
    for cell in first:
        window = salt[cell.row * 101 : (cell.row + 1) * 101, cell.column * 101 : (cell.column + 1) * 101]
        np.testing.assert_array_equal(cell.mask.astype(bool), window)


def test_ricker_spectrum_is_that_of_the_wavelet() -> None:
    """Against the wavelet in space: (1 - 2a) exp(-a) with a = (pi x / period)^2, sampled and transformed."""
    n, period = 512, 12.0
    a = (np.pi * (np.arange(n) - n // 2) / period) ** 2
    wavelet = (1 - 2 * a) * np.exp(-a)
    expected = np.abs(np.fft.rfft(wavelet))
    k = np.fft.rfftfreq(n).astype(np.float32)
    np.testing.assert_allclose(ricker(k, period), expected / expected.max(), atol=2e-3)


def test_wavelength_grows_with_depth() -> None:
    """Zero crossings down the columns, in the upper and the lower fifth of the sections."""
    shallow, deep = [], []
    for cube in range(6):
        earth, plan = draw_model(21, cube, (505, 808))
        section = image(line_through(earth, 0), plan, 0, np.random.default_rng(cube))
        crossings = np.diff(np.sign(section), axis=0) != 0
        shallow.append(crossings[100:200].mean())
        deep.append(crossings[400:500].mean())
    assert np.mean(deep) < 0.8 * np.mean(shallow)


def test_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_survey(tmp_path / "out", tiles=4, shape=(32, 32))
    assert (tmp_path / "out" / "truth.csv").is_file()


def test_large_tiles_that_all_hold_salt_still_end(tmp_path: Path) -> None:
    write_survey(tmp_path / "out", tiles=3, labelled=3, shape=(505, 400))
    masks = [painted(row["rle_mask"], (505, 400)) for row in table(tmp_path / "out" / "truth.csv")]
    assert len(masks) == 3
    assert any(mask.any() for mask in masks)
