import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.data.read import load_images, load_survey
from semisalt.data.tiles import Survey
from semisalt.errors import DataError

Write = Callable[[Mapping[str, bytes]], Path]


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        load_survey(path, cache=None)
    return caught.value.problems


def check_small(survey: Survey, small: Any, depths: bool = True) -> None:
    assert survey.labelled.ids == ("a1", "b2", "c3", "d4")
    assert survey.unlabelled.ids == ("t1", "t2", "t3")
    assert survey.unlabelled.masks is None
    assert survey.labelled.masks is not None
    for part in (survey.labelled, survey.unlabelled):
        for at, tile in enumerate(part.ids):
            np.testing.assert_array_equal(part.images[at], small.images[tile])
            if depths:
                assert part.depths is not None
                assert part.depths[at] == small.depths[tile]
    for at, tile in enumerate(survey.labelled.ids):
        np.testing.assert_array_equal(survey.labelled.masks[at], small.masks[tile])


def test_every_layout_gives_the_same_survey(small: Any, write: Write, zipped: Any, tmp_path: Path) -> None:
    packed = small.packed()
    under_train = {"train.zip": zipped({n: d for n, d in small.files.items() if n.startswith("train/")})}
    litter = {"__MACOSX/train/images/._a1.png": b"x", "train/images/.DS_Store": b"x", "train/images/Thumbs.db": b"x"}
    folders = [
        write(small.files),
        write(packed),
        write(packed | under_train),
        write(
            {f"train/{n}" if n == "train.csv" else n: d for n, d in small.files.items()}
            | {"train.csv": small.files["train.csv"]}
        ),
        write(small.files | {"notes.txt": b"", "other/images/z.png": b"", "train/images/notes.txt": b""}),
    ]
    for name, files in {
        "nested": packed,
        "flat": small.files | litter,
        "deep": {f"top/{n}": d for n, d in packed.items()},
    }.items():
        (tmp_path / f"{name}.zip").write_bytes(zipped(files))
        folders.append(tmp_path / f"{name}.zip")
    surveys = [load_survey(folder, cache=None) for folder in folders]
    for survey, folder in zip(surveys, folders, strict=True):
        check_small(survey, small)
        assert survey.submission_ids == ("t2", "t1", "t3")
        assert survey.source == folder
    assert len({survey.fingerprint for survey in surveys}) == 1


def test_masks_from_either_source_alone(small: Any, write: Write) -> None:
    files = small.files
    from_files = load_survey(write({n: d for n, d in files.items() if n != "train.csv"}), cache=None)
    from_rows = load_survey(write({n: d for n, d in files.items() if "masks/" not in n}), cache=None)
    check_small(from_files, small)
    check_small(from_rows, small)
    assert from_files.fingerprint == from_rows.fingerprint


def test_a_users_own_folders(small: Any, write: Write) -> None:
    def own(name: str) -> str:
        return name.removeprefix("train/").replace("test/images", "unlabelled")

    files = {own(name): data for name, data in small.files.items() if name.endswith(".png")}
    survey = load_survey(write(files), cache=None)
    check_small(survey, small, depths=False)
    assert survey.labelled.depths is None
    assert survey.unlabelled.depths is None
    assert survey.submission_ids is None
    bare = load_survey(write({name: data for name, data in files.items() if name.startswith("images/")}), cache=None)
    assert len(bare.labelled) == 0
    assert bare.unlabelled.ids == ("a1", "b2", "c3", "d4")
    del files["masks/c3.png"]
    assert problems(write(files)) == ("images/c3.png: an image without a mask",)


def test_labelled_tiles_alone(small: Any, write: Write) -> None:
    survey = load_survey(write({n: d for n, d in small.files.items() if n.startswith("train")}), cache=None)
    assert len(survey.labelled) == 4
    assert survey.unlabelled.images.shape == (0, 6, 9)


def test_byte_order_mark_line_ends_and_quotes_are_accepted(small: Any, write: Write) -> None:
    files = dict(small.files)
    for name in ("train.csv", "depths.csv", "sample_submission.csv"):
        files[name] = b"\xef\xbb\xbf" + files[name].replace(b"\n", b"\r\n") + b"\r\n\r\n"
    files["depths.csv"] = files["depths.csv"].replace(b"id,z", b' id , "z"').replace(b"a1,100", b'"a1","100"')
    check_small(load_survey(write(files), cache=None), small)


@pytest.mark.parametrize("pack", [False, True])
def test_all_problems_are_reported_at_once(small: Any, write: Write, png: Any, pack: bool) -> None:
    """One planted fault of each kind; each must be named, and nothing else."""
    files = small.files
    images = {tile: small.images[tile] for tile in small.images}
    files["train/images/b2.png"] = files["train/images/b2.png"][:-20]  # truncated
    files["train/images/c3.png"] = png(images["c3"][:, :5])  # wrong size
    files["train/masks/d4.png"] = png(small.masks["d4"] * np.uint8(100))  # not two-valued
    changed = small.masks["c3"].copy()
    changed[2, 3:5] ^= 1
    files["train/masks/c3.png"] = png(changed)  # differs from its run lengths
    files["train/masks/z9.png"] = png(small.masks["a1"])  # a mask without an image
    files["train/images/y8.png"] = png(images["a1"])  # an image without a mask, row or depth
    files["test/images/a1.png"] = png(images["a1"])  # labelled and unlabelled
    files["test/images/t3.png"] = b"junk"
    files["test/images/t4.jpg"] = b"junk"
    files["train.csv"] = files["train.csv"].replace(b"\na1,", b"\na1,1 1 1 1 ") + b"\nq7,1 1\nd4,1 1\n"
    files["depths.csv"] = files["depths.csv"].replace(b"t1,128", b"t1,deep").replace(b"\nt2,135", b"")
    files["depths.csv"] = files["depths.csv"].replace(b"b2,107", b"b2,nan") + b"\nd4,1\n"
    files["sample_submission.csv"] = b"id,rle_mask\nt2,1 1\nt1,1 1\nu5,1 1\n"
    found = problems(write(small.packed() if pack else files))
    train, test = ("train.zip:", "test.zip:") if pack else ("train/", "test/")
    assert sorted(found) == sorted(
        [
            f"{test}images/t4.jpg: not a PNG; images and masks must be PNG files",
            f"{train}images/a1.png: the tile is unlabelled too ({test}images/a1.png)",
            f"{train}images/y8.png: an image without a mask",
            f"{train}masks/z9.png: a mask without an image",
            f"{train}images/b2.png: a truncated PNG",
            f"{train}images/c3.png: 6×5 pixels; 6×9 expected (height × width)",
            f"{test}images/t3.png: not a PNG",
            f"{train}masks/d4.png: a mask that is not two-valued (0 and 1, 255 or 65535); it has 0, 100",
            f"train.csv line 4: run lengths of c3 differ from {train}masks/c3.png in 2 pixels",
            "train.csv line 7: the id d4 is repeated",
            "train.csv: no row for the labelled tile y8",
            "train.csv line 6: q7 has no labelled image",
            "train.csv line 2: run lengths of a1: the run at 1 overlaps the one before it, or the runs do not ascend",
            "depths.csv line 8: the id d4 is repeated",
            "depths.csv: no depth for the tile y8",
            "depths.csv: no depth for the tile t2",
            "depths.csv line 6: the depth of t1 is 'deep', not a number",
            "depths.csv line 3: the depth of b2 is 'nan', not a number",
            "sample_submission.csv line 4: u5 has no unlabelled image",
            "sample_submission.csv: no row for the unlabelled tile a1",
            "sample_submission.csv: no row for the unlabelled tile t3",
        ]
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("train.csv", b"", "train.csv: no column id and rle_mask; found nothing"),
        ("train.csv", b"id,rle_mask\n", "train.csv: an empty table"),
        ("train.csv", b"id,mask\na1,\n", "train.csv: no column rle_mask; found id, mask"),
        ("depths.csv", b"id;z\na1;3\n", "depths.csv: no column id and z; found id;z"),
        ("depths.csv", b"id,z\n", "depths.csv: an empty table"),
        ("sample_submission.csv", b"\r\n", "sample_submission.csv: no column id; found nothing"),
        ("depths.csv", b"\xff\xfe\0", "depths.csv: not a CSV file in UTF-8"),
    ],
)
def test_unusable_tables(small: Any, write: Write, name: str, text: bytes, expected: str) -> None:
    (found,) = problems(write(small.files | {name: text}))
    assert found.startswith(expected)


def test_short_rows_and_missing_ids(small: Any, write: Write) -> None:
    found = problems(write(small.files | {"depths.csv": small.files["depths.csv"] + b"\nx\n,5\n"}))
    assert found == ("depths.csv line 9: 1 of 2 values", "depths.csv line 10: no id")


@pytest.mark.parametrize(
    ("rle", "expected"),
    [("1", "odd"), ("50 6", "out of range"), ("1.5 2", "not a positive integer"), ("3 0", "not a positive")],
)
def test_faulty_run_lengths_name_their_row(small: Any, write: Write, rle: str, expected: str) -> None:
    files = {name: data for name, data in small.files.items() if "masks/" not in name}
    files["train.csv"] = files["train.csv"].replace(b"\nb2,", f"\nb2,{rle}".encode())
    (found,) = problems(write(files))
    assert found.startswith("train.csv line 3: run lengths of b2: ")
    assert expected in found


def test_the_odd_one_out_is_named_even_if_it_comes_first(small: Any, write: Write, png: Any) -> None:
    small.files["train/images/a1.png"] = png(np.zeros((3, 3), np.uint8))
    assert problems(write(small.files)) == ("train/images/a1.png: 3×3 pixels; 6×9 expected (height × width)",)


def test_nothing_readable(small: Any, write: Write) -> None:
    files = {name: b"" if name.endswith(".png") else data for name, data in small.files.items()}
    found = problems(write(files))
    assert len(found) == 7
    assert all("an empty file" in problem for problem in found)


def test_places_without_tiles(small: Any, write: Write, tmp_path: Path, zipped: Any) -> None:
    assert problems(tmp_path / "nowhere") == (f"{tmp_path / 'nowhere'}: does not exist",)
    assert "no tiles found; expected" in problems(write({}))[0]
    assert "no tiles found" in problems(write({"train.csv": small.files["train.csv"]}))[0]
    whole = write({"whole.zip": zipped(small.files)})
    assert problems(whole)[0].endswith("the path of an archive itself to read it: whole.zip")
    assert len(load_survey(whole / "whole.zip", cache=None).labelled) == 4
    (tmp_path / "empty.zip").write_bytes(zipped({}))
    assert "no tiles found" in problems(tmp_path / "empty.zip")[0]
    (tmp_path / "text.zip").write_bytes(b"hello")
    assert "text.zip: not a readable zip archive" in problems(tmp_path / "text.zip")[0]
    (tmp_path / "line.SGY").write_bytes(b"C 1 CLIENT")
    assert problems(tmp_path / "line.SGY")[0].startswith("line.SGY: SEG-Y is not read: cut the section into tiles")
    folder = write(small.files)
    (folder / "unlabelled").mkdir()
    assert problems(folder) == ("unlabelled: an empty folder (no PNG files)",)


def test_training_images_without_any_labels(small: Any, write: Write) -> None:
    files = {n: d for n, d in small.files.items() if "images/" in n}
    assert problems(write(files)) == ("train/images/a1.png: training images, but neither masks nor train.csv",)


@pytest.mark.parametrize("pack", [False, True])
def test_a_folder_whose_name_is_nearly_right_is_not_passed_over(
    small: Any, write: Write, zipped: Any, tmp_path: Path, pack: bool
) -> None:
    names = {"images": "Images", "masks": "mask", "unlabelled": "unlabeled"}
    for own, other in names.items():
        changed = {n.replace(f"train/{own}/", f"{other}/"): d for n, d in small.files.items()} | {
            f"{'unlabeled' if own == 'unlabelled' else 'unlabelled'}/t1.png": small.files["test/images/t1.png"]
        }
        place = write(changed)
        if pack:
            place = tmp_path / f"{other}.zip"
            place.write_bytes(zipped(changed))
        assert f"{other}: nothing of that name is read; did you mean {own}?" in problems(place)


@pytest.mark.parametrize("beside", ["pictures", "labelled", "images2", "masks.old", "unlabelled_before", ".images"])
def test_what_lies_beside_a_survey_is_nobodys_business(small: Any, write: Write, beside: str) -> None:
    files = {name.replace("test/images", "unlabelled"): data for name, data in small.files.items()}
    files = {name.removeprefix("train/"): data for name, data in files.items()}
    check_small(load_survey(write(files | {f"{beside}/a1.png": files["images/a1.png"]}), cache=None), small)


def test_tables_and_parts_whose_names_are_nearly_right(small: Any, write: Write) -> None:
    changed = {name.replace("depths", "depth").replace("test/", "Test/"): data for name, data in small.files.items()}
    found = problems(write(changed))
    assert "depth.csv: nothing of that name is read; did you mean depths.csv?" in found
    assert "Test: nothing of that name is read; did you mean test?" in found


def test_a_kept_survey_hides_no_misspelt_folder(small: Any, write: Write, tmp_path: Path) -> None:
    files = {n.removeprefix("train/"): d for n, d in small.files.items() if n.startswith("train/") and "csv" not in n}
    place = write(files)
    assert len(load_survey(place, cache=tmp_path / "kept").unlabelled) == 0
    (place / "unlabeled").mkdir()
    (place / "unlabeled" / "t1.png").write_bytes(small.files["test/images/t1.png"])
    with pytest.raises(DataError, match="did you mean unlabelled"):
        load_survey(place, cache=tmp_path / "kept")


def test_packed_and_unpacked_at_once(small: Any, write: Write) -> None:
    found = problems(write(small.files | small.packed()))
    assert found[:2] == (
        "train.zip: lies beside its unpacked folder train; keep one of them",
        "test.zip: lies beside its unpacked folder test; keep one of them",
    )


def test_two_files_for_one_tile(small: Any, write: Write) -> None:
    files = small.files | {"unlabelled/t1.png": small.files["test/images/t1.png"]}
    files |= {"train/images/a1.PNG": small.files["train/images/a1.png"]}
    assert problems(write(files)) == (
        "train/images/a1.png: a second file for a1; the first is train/images/a1.PNG",
        "unlabelled/t1.png: a second file for t1; the first is test/images/t1.png",
    )


def test_tiles_are_in_the_order_of_their_ids(write: Write, png: Any) -> None:
    files = {f"images/{tile}.png": png(np.full((2, 3), at, np.uint8)) for at, tile in enumerate(["b", "a", "a-b"])}
    files |= {name.replace("images", "masks"): png(np.zeros((2, 3), np.uint8)) for name in files}
    survey = load_survey(write(files), cache=None)  # "a-b.png" comes before "a.png"
    assert survey.labelled.ids == ("a", "a-b", "b")
    assert survey.labelled.images[:, 0, 0].tolist() == [1, 2, 0]


def test_many_problems_are_counted_and_the_first_shown(small: Any, write: Write) -> None:
    rows = "".join(f"\nx{at},1" for at in range(50))
    with pytest.raises(DataError) as caught:
        load_survey(write(small.files | {"train.csv": small.files["train.csv"] + rows.encode()}), cache=None)
    assert len(caught.value.problems) == 50
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[0] == "50 problems in the data:"
    assert lines[-1] == "  … and 30 more (semisalt data check prints all)"
    whole = str(DataError(caught.value.problems, whole=True)).splitlines()
    assert [line.strip() for line in whole[1:]] == list(caught.value.problems)


def test_a_chequered_mask_of_the_greatest_size(write: Write, png: Any) -> None:
    mask = (np.indices((512, 512)).sum(0) % 2).astype(np.uint8)
    rle = " ".join(f"{at + 1} 1" for at in np.flatnonzero(mask.T.ravel()))
    image = png(np.zeros((512, 512), np.uint8))
    survey = load_survey(write({"images/a.png": image, "train.csv": f"id,rle_mask\na,{rle}\n".encode()}), cache=None)
    assert survey.labelled.masks is not None
    np.testing.assert_array_equal(survey.labelled.masks[0], mask)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions hold back")
def test_a_file_without_permission(small: Any, write: Write) -> None:
    folder = write(small.files)
    (folder / "test/images/t1.png").chmod(0)
    (found,) = problems(folder)
    assert found.startswith("test/images/t1.png: unreadable")


def test_loose_images(small: Any, write: Write) -> None:
    folder = write(small.files)
    files = [folder / "test/images/t2.png", folder / "train/images/a1.png"]
    part = load_images(files)
    assert part.ids == ("t2", "a1")
    np.testing.assert_array_equal(part.images, np.stack([small.images["t2"], small.images["a1"]]))
    assert part.masks is None
    assert part.depths is None
    with pytest.raises(DataError, match="no image files"):
        load_images([])
    (folder / "x").mkdir()
    bad = [*files, folder / "gone.png", folder / "x/t2.png", folder / "depths.csv"]
    (folder / "x/t2.png").write_bytes(files[0].read_bytes())
    with pytest.raises(DataError) as caught:
        load_images(bad)
    first, second, third = caught.value.problems
    assert first.startswith(f"{bad[2]}: unreadable")
    assert second == f"{bad[4]}: not a PNG"
    assert third == f"{bad[3]}: another file has the same name"


def test_a_data_error_survives_json_and_pickle() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(DataError(["a: b"])))  # noqa: S301
    assert error.problems == ("a: b",)
    assert json.dumps(error.problems) == '["a: b"]'
    assert str(error) == "1 problem in the data:\n  a: b"
