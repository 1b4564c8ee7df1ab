import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.data import read
from semisalt.data.cache import cache_file, stamp, user_folder
from semisalt.data.read import load_survey
from semisalt.data.tiles import Survey

Write = Callable[[Mapping[str, bytes]], Path]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that were read from their files, not from the cache."""
    paths = []

    def counted(path: Path) -> Survey:
        paths.append(path)
        return original(path)

    original = read.read_survey
    monkeypatch.setattr(read, "read_survey", counted)
    return paths


def same(one: Survey, other: Survey) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.submission_ids == other.submission_ids
    assert one.source == other.source
    for a, b in ((one.labelled, other.labelled), (one.unlabelled, other.unlabelled)):
        assert a.ids == b.ids
        for name in ("images", "masks", "depths"):
            first, second = getattr(a, name), getattr(b, name)
            assert (first is None) == (second is None)
            if first is not None:
                assert first.dtype == second.dtype
                np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("tables", [True, False])
def test_the_second_time_comes_from_the_cache(
    small: Any, write: Write, tmp_path: Path, reads: list[Path], tables: bool
) -> None:
    folder = write({n: d for n, d in small.files.items() if tables or n.endswith(".png")})
    once, again = (load_survey(folder, tmp_path / "kept") for _ in range(2))
    assert reads == [folder]
    same(once, again)
    assert [file.name for file in (tmp_path / "kept").iterdir()] == [cache_file(tmp_path, folder).name]


@pytest.mark.parametrize("name", ["test/images/t1.png", "depths.csv", "train/images/b2.png"])
def test_changed_files_are_noticed(small: Any, write: Write, tmp_path: Path, reads: list[Path], name: str) -> None:
    folder = write(small.files)
    before = load_survey(folder, tmp_path / "kept")
    changed = bytearray(small.files[name])
    if name == "depths.csv":
        changed[changed.index(b"a1,1") + 3] = ord("9")  # the size stays, so the time alone tells
    elif name == "test/images/t1.png":
        changed[:] = small.files["test/images/t3.png"]
    (folder / name).write_bytes(changed)
    later = time.time() + 2
    os.utime(folder / name, (later, later))
    after = load_survey(folder, tmp_path / "kept")
    assert len(reads) == 2
    assert (after.fingerprint == before.fingerprint) == (name == "train/images/b2.png")  # touched only
    same(after, load_survey(folder, tmp_path / "kept"))
    assert len(reads) == 2
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_relative_path_finds_what_an_absolute_one_kept(
    small: Any, write: Write, tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(small.files)
    load_survey(folder, tmp_path / "kept")
    monkeypatch.chdir(folder)
    assert load_survey(Path(), tmp_path / "kept").source == Path()
    assert reads == [folder]


def test_the_stamp_follows_names_sizes_and_times(small: Any, write: Write) -> None:
    folder = write(small.files)
    file = folder / "test/images/t1.png"
    os.utime(file, ns=(10**18, 10**18))
    seen = [stamp(folder)]
    assert stamp(folder) == seen[0]
    os.utime(file, ns=(10**18, 10**18 + 1))
    seen.append(stamp(folder))
    file.rename(file.with_name("t9.png"))
    seen.append(stamp(folder))
    with file.with_name("t9.png").open("ab") as stream:
        stream.write(b"more")
    os.utime(file.with_name("t9.png"), ns=(10**18, 10**18 + 1))
    seen.append(stamp(folder))
    (folder / "test/images/t10.png").touch()
    seen.append(stamp(folder))
    (folder / "train.csv").unlink()
    seen.append(stamp(folder))
    assert len(set(seen)) == 6


def test_any_damage_to_the_cache_is_noticed(small: Any, write: Write, tmp_path: Path, reads: list[Path]) -> None:
    folder = write(small.files)
    expected = load_survey(folder, tmp_path / "kept")
    file = cache_file(tmp_path / "kept", folder)
    whole = file.read_bytes()
    damaged = [whole[:length] for length in (0, 10, len(whole) // 2, len(whole) - 1)]
    for position in (whole.index(expected.labelled.images.tobytes()) + 3, whole.index(b"a\0\0\0" + b"1\0\0\0")):
        flipped = bytearray(whole)
        flipped[position] ^= 0x01
        damaged.append(bytes(flipped))
    for count, data in enumerate(damaged, start=2):
        file.write_bytes(data)
        with pytest.warns(UserWarning, match="damaged cache file"):
            same(load_survey(folder, tmp_path / "kept"), expected)
        assert len(reads) == count
        assert file.read_bytes() != data, "the cache was not rebuilt"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_survey(folder, tmp_path / "kept")


def test_pickled_content_is_never_run(small: Any, write: Write, tmp_path: Path) -> None:
    folder = write(small.files)
    load_survey(folder, tmp_path)
    np.savez(cache_file(tmp_path, folder), stamp=np.array([{"an": "object"}], dtype=object))
    with pytest.warns(UserWarning, match="damaged cache file"):
        load_survey(folder, tmp_path)


def test_a_write_that_breaks_off_leaves_the_old_file(
    small: Any, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(small.files)
    load_survey(folder, tmp_path / "kept")
    file = cache_file(tmp_path / "kept", folder)
    before = file.read_bytes()
    os.utime(folder / "train.csv", (1, 1))

    def broken(stream: Any, **_: Any) -> None:
        stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.warns(UserWarning, match="no space left"):
        load_survey(folder, tmp_path / "kept")
    assert file.read_bytes() == before
    assert list((tmp_path / "kept").iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_a_warning(small: Any, write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be kept"):
        survey = load_survey(write(small.files), tmp_path / "file" / "kept")
    assert len(survey.labelled) == 4


def test_the_users_folder_is_the_default_and_none_keeps_nothing(
    small: Any, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(small.files)
    load_survey(folder, None)
    assert not (tmp_path / "cache").exists()
    load_survey(folder)
    assert user_folder() == tmp_path / "cache/semisalt"
    assert cache_file(user_folder(), folder).exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_folder() == Path.home() / ".cache/semisalt"
