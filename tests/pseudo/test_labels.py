import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.pseudo.labels import (
    LabelDirectory,
    Provenance,
    hash_files,
    load_labels,
    refuse_leak,
    refuse_other_labels,
    verdicts_of,
    write_labels,
    write_provenance,
)
from semisalt.pseudo.selection import Candidates
from tests.tiny import tiny_tiles

TILES = tiny_tiles(6, seed=4, name="u")
BARE = TileSet(TILES.ids, TILES.images, None, TILES.depths)
VERDICTS = np.array(["taken", "tiny", "blank", "taken", "over its quota", "taken"])
PROVENANCE = Provenance("nowhere", 1, {"fold1/averaged.safetensors": "ab"}, ("t1", "t7"), False, 0.4, {"a": 1.0}, "")
MEASURED = Candidates(
    blank=VERDICTS == "blank",
    decided=np.array([0.91, 0.92, 0.93, 0.94, 0.95, 0.123456]),
    confidence=np.full(6, 0.9),
    agreement=np.full(6, np.nan),
    stability=np.full(6, 0.5),
    area=np.array([0, 3, 0, 100, 512, 1024]),
    pixels=1024,
)


def soft_labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)


def write(path: Path, *, soft: bool) -> LabelDirectory:
    folder = LabelDirectory(path)
    labels = soft_labels()
    values = labels if soft else (labels > 102) * np.uint8(255)
    digest = write_labels(folder, BARE, VERDICTS, MEASURED, values, soft=soft)
    assert not folder.complete()
    write_provenance(folder, replace(PROVENANCE, labels=digest))
    return folder


@pytest.mark.parametrize("soft", [False, True])
def test_labels_come_back(tmp_path: Path, soft: bool) -> None:
    folder = write(tmp_path, soft=soft)
    assert folder.complete()
    assert folder.provenance() == replace(PROVENANCE, labels=folder.provenance().labels)
    found = load_labels(folder, BARE)
    assert found.ids == tuple(BARE.ids[at] for at in (0, 3, 5))
    assert BARE.depths is not None
    assert found.depths is not None
    assert found.depths.tolist() == BARE.depths[[0, 3, 5]].tolist()
    np.testing.assert_array_equal(found.images, BARE.images[[0, 3, 5]])
    # Over .4 is salt: 102/255 is .4 itself and none.
    np.testing.assert_array_equal(found.masks, soft_labels() > 102)
    np.testing.assert_array_equal(found.targets, soft_labels() if soft else (soft_labels() > 102) * 255)
    file = tmp_path / ("labels.npy" if soft else "labels.csv")
    assert folder.provenance().labels == hashlib.sha256(file.read_bytes()).hexdigest()


def test_every_candidate_has_its_row(tmp_path: Path) -> None:
    rows = verdicts_of(write(tmp_path, soft=False))
    assert [row["id"] for row in rows] == list(BARE.ids)
    assert [row["verdict"] for row in rows] == VERDICTS.tolist()
    assert [row["coverage"] for row in rows] == ["0.0000", "0.0029", "0.0000", "0.0977", "0.5000", "1.0000"]
    assert rows[5]["decided"] == "0.1235"
    assert {row["agreement"] for row in rows} == {"nan"}


def test_hard_labels_are_small(tmp_path: Path) -> None:
    """18,800 tiles by five folds fit a gigabyte: run lengths of layers take less than the pixels by far."""
    folder = LabelDirectory(tmp_path)
    assert TILES.masks is not None
    verdicts = np.full(6, "taken")
    write_labels(folder, BARE, verdicts, MEASURED, TILES.masks * np.uint8(255), soft=False)
    assert (tmp_path / "labels.csv").stat().st_size < 6 * 32 * 32 / 4


@pytest.mark.parametrize("soft", [False, True])
def test_changed_labels_are_refused(tmp_path: Path, soft: bool) -> None:
    folder = write(tmp_path, soft=soft)
    file = tmp_path / ("labels.npy" if soft else "labels.csv")
    file.write_bytes(file.read_bytes()[:-1] + b"1")
    with pytest.raises(UserError, match="was changed after it was written"):
        load_labels(folder, BARE)
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_labels(folder, BARE)


def test_labels_of_other_tiles_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, soft=False)
    for other in (BARE.subset(np.arange(5)), BARE.subset(np.arange(6)[::-1])):
        with pytest.raises(UserError, match="is of other tiles"):
            load_labels(folder, other)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("change", [("taken,0.0977", "tiny,0.0977"), ("tiny,0.0029", "taken,0.0029")])
def test_changed_verdicts_are_refused(tmp_path: Path, soft: bool, change: tuple[str, str]) -> None:
    folder = write(tmp_path, soft=soft)
    text = folder.tiles.read_text()
    assert text.count(change[0]) == 1
    folder.tiles.write_text(text.replace(*change))
    with pytest.raises(UserError, match="names other tiles as taken"):
        load_labels(folder, BARE)


def test_swapped_verdicts_do_not_move_hard_labels(tmp_path: Path) -> None:
    """As many are taken as before, but another one: its neighbour's label is not given to it."""
    folder = write(tmp_path, soft=False)
    text = folder.tiles.read_text().replace("taken,0.0977", "x,0.0977").replace("over its quota,", "taken,")
    folder.tiles.write_text(text)
    with pytest.raises(UserError, match="names other tiles as taken"):
        load_labels(folder, BARE)


def test_unreadable_provenance_is_a_users_error(tmp_path: Path) -> None:
    folder = write(tmp_path, soft=False)
    kept = json.loads(folder.provenance_file.read_text())
    for bad in ({**kept, "more": 1}, {k: v for k, v in kept.items() if k != "learned_from"}, []):
        folder.provenance_file.write_text(json.dumps(bad))
        with pytest.raises(UserError, match=r"provenance\.json"):
            folder.provenance()


def test_a_leak_is_named(tmp_path: Path) -> None:
    folder = LabelDirectory(tmp_path)
    refuse_leak(folder, PROVENANCE, ["t2", "t3"])
    with pytest.raises(UserError, match=r"2 of fold 1's validation tiles \(t1, t7\).*--pooled"):
        refuse_leak(folder, PROVENANCE, ["t7", "t0", "t1"])
    many = replace(PROVENANCE, learned_from=tuple("abcdef"))
    with pytest.raises(UserError, match=r"5 of fold 1's validation tiles \(a, b, c …\)"):
        refuse_leak(folder, many, "abcde")


def test_labels_of_another_fold_or_kind_are_refused(tmp_path: Path) -> None:
    folder = LabelDirectory(tmp_path)
    refuse_other_labels(folder, PROVENANCE, 1, pooled=False)
    with pytest.raises(UserError, match="made for fold 1, not for fold 0"):
        refuse_other_labels(folder, PROVENANCE, 0, pooled=False)
    with pytest.raises(UserError, match="these labels are pooled"):
        refuse_other_labels(folder, replace(PROVENANCE, pooled=True), 1, pooled=False)
    with pytest.raises(UserError, match="this run's are pooled"):
        refuse_other_labels(folder, PROVENANCE, 1, pooled=True)


def test_hashes_are_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    found = list(hash_files([tmp_path / name for name in "abc"]).values())
    assert found[0] == found[1] == hashlib.sha256(b"x").hexdigest() != found[2]
