"""What a round took and refused, as a picture and as counts."""

import io
import shutil

import cv2
import numpy as np
import pytest
from rich.console import Console

from semisalt.errors import UserError
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.labels import load_labels, verdicts_of
from semisalt.report import gallery
from semisalt.report.figures import heat, outlined
from semisalt.report.gallery import caption, choose, verdict_counts, verdict_table, write_gallery
from semisalt.run import RunDirectory
from tests.pseudo.made import config_of, labelled, made_run, task_of
from tests.tiny import tiny_survey

CONFIG = config_of(pseudo={"limit": 6, "mirrored": 0.1, "max_coverage": 0.9})


def row(tile, verdict, coverage, decided=0.9, confidence=0.9, agreement="nan", stability="nan"):
    numbers = (coverage, decided, confidence, agreement, stability)
    return dict(
        zip(("id", "verdict", "coverage", "decided", "confidence", "agreement", "stability"),
            (tile, verdict, *(f"{float(n):.4f}" for n in numbers)), strict=True)
    )  # fmt: skip


def test_captions_name_the_measures_that_were_taken():
    assert caption(row("abc", "taken", 0.126, 0.97, 1)) == "abc  salt 13%  d.970 c1.000"
    assert caption(row("abc", "taken", 0, 0.97, 0.9, 0.5, 0.25)) == "abc  salt 0%  d.970 c.900 m.500 s.250"


def test_counts_by_verdict_begin_with_the_taken():
    rows = [row(f"t{k}", verdict, 0) for k, verdict in enumerate(["tiny", "blank", "taken", "tiny", "blank", "tiny"])]
    assert list(verdict_counts(rows).items()) == [("taken", 1), ("tiny", 3), ("blank", 2)]
    assert verdict_counts(rows[:2])["taken"] == 0


def test_the_table_counts_salt_and_empty_in_every_fold():
    first = [row("a", "taken", 0.1), row("b", "taken", 0), row("c", "tiny", 0.001)]
    second = [row("a", "taken", 0.1), row("b", "taken", 0.3), row("c", "blank", 0)]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(verdict_table({0: first, 3: second}))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "verdict fold 0 fold 3" in lines
    assert "taken 1 + 1 2 + 0" in lines
    assert "tiny 1 + 0 0 + 0" in lines
    assert "blank 0 + 0 0 + 1" in lines


def test_ends_of_the_taken_and_a_spread_of_the_refused():
    rng = np.random.default_rng(0)
    decided = rng.permutation(100) / 200 + 0.5
    rows = [row(f"s{k}", "taken", 0.2, decided[k]) for k in range(30)]
    rows += [row(f"e{k}", "taken", 0, decided[30 + k]) for k in range(5)]
    rows += [row(f"u{k}", "undecided", 0.1, decided[35 + k]) for k in range(40)]
    rows += [row("x", "tiny", 0.001), row("b", "blank", 0)]
    by_heading = {part.heading: [rows[at] for at in part.positions] for part in choose(rows)}
    assert list(by_heading) == [
        "taken with salt (30), most confident",
        "taken with salt (30), least confident",
        "taken without salt (5)",
        "refused, undecided (40), from most to least confident",
        "refused, tiny (1)",
    ]
    salt = sorted((float(r["decided"]) for r in rows[:30]), reverse=True)
    most, least, empty, undecided, _ = ([float(r["decided"]) for r in part] for part in by_heading.values())
    assert most == salt[:4]
    assert least == salt[-4:]
    assert empty == sorted(empty, reverse=True)
    assert len(empty) == 5
    refused = sorted((float(r["decided"]) for r in rows[35:75]), reverse=True)
    assert [refused.index(value) for value in undecided] == [0, 6, 11, 17, 22, 28, 33, 39]


def test_equally_decided_tiles_are_ordered_by_confidence():
    rows = [row(f"t{k}", "taken", 0.2, 0.95, confidence) for k, confidence in enumerate([0.91, 0.93, 0.92])]
    assert choose(rows)[0].positions.tolist() == [1, 2, 0]


@pytest.fixture(scope="module")
def survey():
    return tiny_survey(40, 14)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, survey):
    """A round of two folds, of which the first has labels of its own and the second pooled ones."""
    root = tmp_path_factory.mktemp("rounds")
    source = made_run(root / "round0", CONFIG, survey)
    run = made_run(root / "round1", CONFIG, survey)
    labelled(task_of(source, survey, 0), CONFIG, run.path)
    labelled(task_of(source, survey, 1, voters=(0, 1)), CONFIG, run.path)
    return run


@pytest.fixture
def run(finished, tmp_path):
    """The same, for a test of its own; the labels' source is then found beside it."""
    shutil.copytree(finished.path.parent, tmp_path / "moved", ignore=shutil.ignore_patterns("gallery*"))
    return RunDirectory(tmp_path / "moved" / "round1")


@pytest.mark.parametrize("fold", [0, 1])
def test_taken_and_refused_tiles_stand_beside_their_probabilities(finished, survey, fold, monkeypatch):
    shown, draw = {}, gallery.sheet

    def spy(pictures, captions, columns, **options):
        shown.update(zip([text.split()[0] for text in captions], pictures, strict=True))
        return draw(pictures, captions, columns, **options)

    monkeypatch.setattr(gallery, "sheet", spy)
    path = write_gallery(finished, fold, survey)
    assert path == finished.path / f"gallery-fold{fold}.png"
    picture = cv2.imread(str(path))
    assert picture.shape[1] < 2000
    assert picture.shape[2] == 3

    folder = label_directory(finished, fold)
    tiles = task_of(RunDirectory(finished.path.parent / "round0"), survey, fold).candidates
    rows = {row["id"]: row for row in verdicts_of(folder)}
    labels = load_labels(folder, tiles)
    taken = set(labels.ids)
    assert taken <= set(shown)  # six are taken
    assert set(shown) - taken
    assert not any(rows[tile]["verdict"] == "blank" for tile in shown)
    source = finished.path.parent / "round0" / "unlabelled"
    voters = (0, 1) if fold else (0,)
    maps = {}
    for suffix, ids in (("", survey.unlabelled.ids), (f"-aside{1 - fold}", tiles.ids[14:])):
        parts = [np.load(source / f"fold{voter}{suffix}.npy").astype(float) for voter in voters]
        maps.update(zip(ids, np.rint(np.mean(parts, axis=0)).astype(np.uint8), strict=True))
    threshold = folder.provenance().threshold
    for tile, found in shown.items():
        image = tiles.images[tiles.ids.index(tile)]
        mask = (maps[tile] > threshold * 255).astype(np.uint8)
        scale = round(200 / 32)
        assert (found == np.hstack([outlined(image, None, mask, scale), heat(maps[tile], scale)])).all()
        if tile in taken:
            assert (labels.masks[labels.ids.index(tile)] == mask).all()


def test_soft_labels_are_outlined_by_their_hard_form(tmp_path, survey):
    config = config_of(pseudo={"labels": "soft"})
    source = made_run(tmp_path / "round0", config, survey)
    run = made_run(tmp_path / "round1", config, survey)
    labelled(task_of(source, survey), config, run.path)
    assert write_gallery(run, 0, survey).exists()


def test_a_moved_run_finds_its_source_beside_it(run, finished, survey):
    kept = finished.path.parent.rename(finished.path.parent.with_name("away"))
    try:
        assert write_gallery(run, 0, survey).exists()
        shutil.rmtree(run.path.parent / "round0")
        with pytest.raises(UserError, match="round0, whose probabilities the labels were made from, is not there"):
            write_gallery(run, 0, survey)
    finally:
        kept.rename(finished.path.parent)


def alone(run, monkeypatch):
    """The source beside `run` is the only one."""
    source = run.path.parent / "round0"
    monkeypatch.setattr(gallery, "_source", lambda *_: RunDirectory(source))
    return source / "unlabelled" / "fold0.npy"


def test_probabilities_that_are_gone_or_replaced_are_not_shown(run, survey, monkeypatch):
    file = alone(run, monkeypatch)
    kept = np.load(file)
    np.save(file, 255 - kept)
    with pytest.raises(UserError, match="are not those that it was labelled by"):
        write_gallery(run, 0, survey)
    np.save(file, kept[:5])
    with pytest.raises(UserError, match="is gone, or is of other tiles now"):
        write_gallery(run, 0, survey)
    file.unlink()
    with pytest.raises(UserError, match="is gone"):
        write_gallery(run, 0, survey)
    assert not list(run.path.glob("gallery*"))


def test_folds_without_labels_and_other_surveys_are_refused(run, survey):
    with pytest.raises(UserError, match="of other tiles than the survey's"):
        write_gallery(run, 0, tiny_survey(40, 13))
    label_directory(run, 0).provenance_file.unlink()
    with pytest.raises(UserError, match="fold 0 has no labels"):
        write_gallery(run, 0, survey)
