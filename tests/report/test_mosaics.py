"""Pictures, page, table and scalars of mosaics, read back."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semisalt.data.read import load_survey
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_array
from semisalt.metrics import Interval
from semisalt.mosaics.evaluate import ALL, BLENDED, WINDOWED, RuleVerdict, Verdict
from semisalt.mosaics.rules import RULES
from semisalt.mosaics.store import load, save
from semisalt.report.mosaics import (
    LABEL,
    PREDICTION,
    Overlay,
    describe,
    labels_of,
    picture,
    predictions_of,
    section,
    write_pages,
)
from semisalt.report.verdict import log_verdict, verdict_table
from tests.mosaics.worlds import mosaics_of, pairs_of
from tests.report.conftest import COUNT, HEIGHT, WIDTH, make_run, tiles_of

GRIDS = [np.array([[3, 41, 5], [-1, 6, 42]]), np.array([[9], [1]])]


@pytest.fixture(scope="module")
def survey():
    others = replace(tiles_of(6), masks=None, ids=tuple(f"u{k}" for k in range(6)))
    return Survey(tiles_of(), others, "f" * 64, Path("some <where>"), None)


@pytest.fixture(scope="module")
def mosaics(survey):
    made = mosaics_of(GRIDS, COUNT + 6)
    return replace(made, ids=survey.labelled.ids + survey.unlabelled.ids)


@pytest.fixture(scope="module")
def images(survey):
    return np.concatenate([survey.labelled.images, survey.unlabelled.images])


def window(row, column, scale=1):
    return np.s_[
        row * HEIGHT * scale : (row + 1) * HEIGHT * scale, column * WIDTH * scale : (column + 1) * WIDTH * scale
    ]


def tint(page, color):
    """Pixels of exactly a colour."""
    return (page == np.array(color)).all(axis=2)


def test_tiles_lie_in_their_places(mosaics, images):
    joined = section(mosaics, images, 0)
    assert joined.shape == (2 * HEIGHT, 3 * WIDTH)
    assert (joined[window(1, 0)] == 255).all()
    for (row, column), tile in np.ndenumerate(GRIDS[0]):
        if tile >= 0:
            assert np.corrcoef(joined[window(row, column)].ravel(), images[tile].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("scale", [1, 2])
def test_labels_are_red_predictions_green_and_bare_tiles_bare(survey, mosaics, images, scale):
    labels = labels_of(survey)
    masks = np.zeros_like(labels.masks)
    masks[42, 5:15, 5:20] = 1
    predictions = Overlay(masks, np.arange(len(masks)) == 42)
    page = picture(mosaics, images, 0, labels, predictions, scale)
    assert page.shape == (2 * HEIGHT * scale, 3 * WIDTH * scale, 3)
    assert tint(page[window(0, 0, scale)], LABEL).any()
    bare = page[window(0, 1, scale)]
    assert (bare[2:-2, 2:-2].std(axis=2) == 0).all()  # grey
    predicted = page[window(1, 2, scale)]
    green = tint(predicted, PREDICTION)
    assert green[5 * scale, 5 * scale : 20 * scale].all()
    assert not green[: 5 * scale].any()
    assert not tint(predicted, LABEL).any()
    assert not tint(picture(mosaics, images, 0, labels, None, scale), PREDICTION).any()


def test_a_labelled_empty_tile_is_framed(survey, images):
    pair = mosaics_of([np.array([[4, 41]])], COUNT + 6)  # every fourth tile is empty
    page = picture(pair, images, 0, labels_of(survey))
    frame = tint(page, LABEL)
    assert frame[0, :WIDTH].all()
    assert frame[:, 0].all()
    assert not frame[2:-2, 2 : WIDTH - 2].any()
    assert not frame[:, WIDTH:].any()
    assert "2 tiles in 1 rows and 2 columns, 1 labelled (0 with salt)" in describe(pair, 0, labels_of(survey))


def test_the_page_needs_no_other_file_and_goes_by_size(tmp_path, survey, mosaics, images):
    path = write_pages(tmp_path, mosaics, survey, images, None)
    text = path.read_text()
    assert re.findall(r'<figure id="m(\d+)">', text) == ["0", "1"]
    assert "mosaic 0: 5 tiles" in text
    assert "mosaic 1: 2 tiles" in text
    assert "some &lt;where&gt;" in text
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sources
    assert all(source.startswith(("data:image/jpeg;base64,", "#m")) for source in sources)
    first = next(source for source in sources if source.startswith("data:"))
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(first.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape[:2] == (2 * HEIGHT * 2, 3 * WIDTH * 2)
    assert all(mosaics.ids[tile] in text for tile in (3, 41, 42, 9))
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == ["mosaic0000.png", "mosaic0001.png"]
    assert write_pages(tmp_path, mosaics, survey, images, None, limit=1).read_text().count("<figure") == 1


def test_no_mosaic_is_said(tmp_path, survey, images):
    with pytest.raises(UserError, match="no mosaic"):
        write_pages(tmp_path, mosaics_of([], COUNT + 6), survey, images, None)


def test_a_runs_masks(tmp_path, survey, mosaics, images):
    run = make_run(tmp_path / "runs" / "salty", survey.labelled, finished=(1,))
    with pytest.raises(UserError, match="semisalt predict"):
        predictions_of(run, survey)
    maps = np.zeros((6, HEIGHT, WIDTH), np.uint8)
    maps[2, 4:9, 4:9] = 250
    write_array(run.unlabelled / "fold1.npy", maps)
    found = predictions_of(run, survey)
    # Fold 1 holds every second tile that is not blank (t000 is), from the second on.
    assert np.flatnonzero(found.given).tolist() == [*range(2, COUNT, 2), *range(COUNT, COUNT + 6)]
    np.testing.assert_array_equal(found.masks[COUNT + 2], maps[2] > 0)
    assert not found.masks[[COUNT, 3, 7]].any()
    assert (found.masks[6] == survey.labelled.masks[6]).all()
    page = write_pages(tmp_path, mosaics, survey, images, run).read_text()
    assert "masks of salty green" in page
    write_array(run.unlabelled / "fold1.npy", maps[:3])
    with pytest.raises(UserError, match="semisalt predict"):
        predictions_of(run, survey)


def verdict():
    change = Interval(-0.0123, -0.0234, 0.0345)
    names = (*RULES, WINDOWED, BLENDED, ALL)
    rules = [
        RuleVerdict(name, Interval(0.8123, 0.7987, 0.8345), change, 1096, 1017, 1055, 1024, 0.824, 1.0, 4760)
        for name in names
    ]
    rules[1] = replace(rules[1], touched=0, unlabelled=None)
    return Verdict("gpu-long-name", 3920, 1096, 643, 5627, 138, 173, Interval(0.8102, 0.7831, 0.8365), tuple(rules))


def test_the_table_fits_80_columns():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verdict_table(verdict()))
    lines = console.export_text().splitlines()
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    assert "continue below 1096 1017 1055 1024 .82→1.0 -.012 [-.023, .035] 4760" in text
    assert "continue above 0 1017" in text
    assert "138 of 173 pairs" in text
    assert "without mosaics: .810 [.783, .837]" in text
    assert all(any(line.startswith(name) for line in lines) for name in (*RULES, WINDOWED, BLENDED, ALL))


def test_scalars_are_read_back(tmp_path, survey):
    run = make_run(tmp_path / "runs" / "salty", survey.labelled)
    for _ in range(2):
        log_verdict(run, verdict())
    found = EventAccumulator(str(run.path / "tensorboard" / "mosaics"))
    found.Reload()
    assert len(list((run.path / "tensorboard" / "mosaics").iterdir())) == 1
    (event,) = found.Scalars("mosaics/score/alone")
    assert event.value == pytest.approx(0.8102)
    (event,) = found.Scalars("mosaics/change_low/joined_blended")
    assert event.value == pytest.approx(-0.0234)
    (event,) = found.Scalars("mosaics/touched/continue_below")
    assert event.value == 1096


def test_a_folder_knows_its_survey(tmp_path):
    tiles = tiles_of(4)
    source = tmp_path / "data"
    for name in ("images", "masks", "unlabelled"):
        (source / name).mkdir(parents=True)
    for index, tile in enumerate(tiles.ids):
        cv2.imwrite(str(source / "images" / f"{tile}.png"), tiles.images[index])
        cv2.imwrite(str(source / "masks" / f"{tile}.png"), tiles.masks[index] * 255)
    cv2.imwrite(str(source / "unlabelled" / "u0.png"), tiles.images[1][::-1])
    survey = load_survey(source, cache=None)
    made = replace(mosaics_of([np.array([[1, 4]])], 5), ids=survey.labelled.ids + survey.unlabelled.ids)
    save(tmp_path / "m", survey, made, pairs_of(made))
    again, read, pairs = load(tmp_path / "m")
    assert again.fingerprint == survey.fingerprint
    assert (read.ids, len(pairs)) == (made.ids, 1)
    moved = source.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="--data"):
        load(tmp_path / "m")
    assert load(tmp_path / "m", moved)[1].ids == made.ids
    cv2.imwrite(str(moved / "unlabelled" / "u0.png"), tiles.images[1])
    with pytest.raises(UserError, match="other tiles"):
        load(tmp_path / "m", moved)


def test_an_inflated_verdict_says_so(tmp_path, survey):
    run = make_run(tmp_path / "runs" / "salty", survey.labelled)
    marked = replace(verdict(), inflated="labels are pooled")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verdict_table(marked))
    assert "INFLATED: labels are pooled" in console.export_text()
    log_verdict(run, marked)
    found = EventAccumulator(str(run.path / "tensorboard" / "mosaics"))
    found.Reload()
    scores = [tag for tag in found.Tags()["scalars"] if "score" in tag]
    assert scores
    assert all(tag.startswith("inflated/") for tag in scores)
