import io
import stat
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from semisalt.data.archive import open_entries, source_files
from semisalt.errors import DataError

Zipped = Callable[[Mapping[str, bytes]], bytes]


def refused(path: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught, open_entries(path):
        pass
    return caught.value.problems


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "images/../../x.png", "C:/x.png", "..\\x.png", "\\x.png", ".."]
)
def test_members_outside_of_the_archive_are_refused(tmp_path: Path, zipped: Zipped, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"images/good.png": b"1", name: b"2", "../second.png": b"3"}))
    before = sorted(tmp_path.iterdir())
    problems = refused(tmp_path / "a.zip")
    assert len(problems) == 2
    assert all(problem.startswith("a.zip: the member '") for problem in problems)
    assert repr(name) in problems[0]
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_read_before_every_member_is_known(
    tmp_path: Path, zipped: Zipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"train.zip": zipped({}), "../x.png": b"2"}))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("a member was read"))
    assert len(refused(tmp_path / "a.zip")) == 1


def test_inner_archives_are_checked_too(tmp_path: Path, zipped: Zipped) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"test.zip": zipped({"../x.png": b"1"})}))
    assert refused(tmp_path / "a.zip")[0].startswith("a.zip:test.zip: the member '../x.png'")
    (tmp_path / "b.zip").write_bytes(zipped({"test.zip": b"no archive"}))
    assert refused(tmp_path / "b.zip")[0].startswith("b.zip:test.zip: not a readable zip")
    (tmp_path / "train.zip").write_bytes(zipped({"/x.png": b"1"}))
    assert refused(tmp_path)[0].startswith("train.zip: the member '/x.png'")


def test_symbolic_links_and_encryption_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("images/link.png")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("images/secret.png", b"x")
    data = bytearray(stream.getvalue())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the encryption flag in the last central header
    (tmp_path / "a.zip").write_bytes(data)
    first, second = refused(tmp_path / "a.zip")
    assert "'images/link.png' is a symbolic link" in first
    assert "'images/secret.png' is encrypted" in second


def test_a_name_cut_off_by_a_null_byte_is_refused(tmp_path: Path, zipped: Zipped) -> None:
    data = zipped({"images/a.png_.png": b"1"}).replace(b"a.png_.png", b"a.png\0.png")
    (tmp_path / "a.zip").write_bytes(data)
    assert "points outside" in refused(tmp_path / "a.zip")[0]


def test_packed_and_unpacked_members_have_the_same_names(tmp_path: Path, zipped: Zipped) -> None:
    inner = {"images/a.png": b"A", "images/.hidden.png": b"", "__MACOSX/images/a.png": b"", "folder/": b""}
    outer = {"train.zip": zipped(inner), "test/images/b.png": b"B", "depths.csv": b"C", "other.zip": b"D"}
    for name, data in outer.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    (tmp_path / "all.zip").write_bytes(zipped(outer))
    expected = {"train/images/a.png": b"A", "test/images/b.png": b"B", "depths.csv": b"C"}
    with open_entries(tmp_path / "folder") as entries:
        assert {str(entry.name): entry.read() for entry in entries} == expected
    with open_entries(tmp_path / "all.zip") as entries:
        found = {str(entry.name): (entry.label, entry.read()) for entry in entries}
    assert {name: data for name, (_, data) in found.items()} == expected | {"other.zip": b"D"}
    assert found["train/images/a.png"][0] == "all.zip:train.zip:images/a.png"


def test_many_threads_read_one_archive(tmp_path: Path, zipped: Zipped) -> None:
    contents = {f"images/{at}.png": bytes([at]) * (1000 + 37 * at) for at in range(200)}
    (tmp_path / "a.zip").write_bytes(zipped(contents))
    with open_entries(tmp_path / "a.zip") as entries, ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            read = dict(zip([str(e.name) for e in entries], pool.map(lambda e: e.read(), entries), strict=True))
            assert read == contents


def test_only_known_places_of_a_folder_are_looked_at(tmp_path: Path) -> None:
    known = ["train.csv", "test.zip", "images/a.png", "train/masks/b.png", "test/unlabelled/c.png", "images/d.txt"]
    for name in [
        *known,
        "d.png",
        "images/.e.png",
        "images/deeper/f.png",
        "others/images/g.png",
        "h.zip",
        "train/i.png",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {str(file.relative_to(tmp_path)) for file in source_files(tmp_path)} == set(known)


def test_damaged_members_are_reported_when_read(tmp_path: Path, small: Any, zipped: Zipped) -> None:
    from semisalt.data.read import load_survey

    data = bytearray(zipped(small.files))
    start = data.index(b"test/images/t2.png") + len("test/images/t2.png")
    data[start + 30] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError) as caught:
        load_survey(tmp_path / "a.zip", cache=None)
    (problem,) = caught.value.problems
    assert problem.startswith("a.zip:test/images/t2.png: unreadable")
