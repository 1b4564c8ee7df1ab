import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from semisalt.files import atomic, remove_leftovers, write_array, write_bytes, write_json, write_text


def test_content_arrives_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write_array(tmp_path / "sub" / "a.npy", array)
    write_json(tmp_path / "b.json", {"ü": [1, 0.5, None]})
    write_text(tmp_path / "c.txt", "salt ≠ water\n")
    write_bytes(tmp_path / "d", b"\x00\xff")
    np.testing.assert_array_equal(np.load(tmp_path / "sub" / "a.npy"), array)
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == {"ü": [1, 0.5, None]}
    assert (tmp_path / "c.txt").read_bytes() == "salt ≠ water\n".encode()
    assert (tmp_path / "d").read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.npy", "b.json", "c.txt", "d", "sub"]


def write_then_fail(path: Path) -> None:
    path.write_text("ne")
    raise ZeroDivisionError


def test_exception_mid_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        write_then_fail(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_appears_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.suffix == ".txt"
        assert temporary.parent == tmp_path
        temporary.write_text("whole")
    assert path.read_text() == "whole"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1.0, float("-inf")]}])
def test_json_refuses_what_json_does_not_know(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_array_of_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        write_array(tmp_path / "a.npy", np.array([{}], dtype=object))
    assert list(tmp_path.iterdir()) == []


def _die_half_way(path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.safetensors"
    write_text(path, "old")
    (path.parent / ".lock").touch()
    child = multiprocessing.get_context("fork").Process(target=_die_half_way, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(path.parent.iterdir())) == 3
    remove_leftovers(path.parent)
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "a.safetensors"]
    remove_leftovers(tmp_path / "absent")
