import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semisalt.errors import UserError
from semisalt.training.checkpoint import load_checkpoint, save_checkpoint

STATE = {"weights": torch.arange(300.0), "position": {"epoch": 3, "best": float("-inf")}, "list": [("a", 1), None]}


def test_round_trip_and_nothing_else_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, STATE)
    save_checkpoint(path, STATE)
    found = load_checkpoint(path)
    assert torch.equal(found["weights"], torch.arange(300.0))
    assert found["position"] == STATE["position"]
    assert found["list"] == STATE["list"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "last.ckpt"
    save_checkpoint(path, STATE)
    return path.read_bytes()


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.ckpt"
    damaged = bytearray(whole)
    damaged[int(at * len(whole))] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"flipped\.ckpt: damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 10, 93, 94, -1])
def test_truncated_file_is_noticed(tmp_path: Path, whole: bytes, length: int) -> None:
    (tmp_path / "a.ckpt").write_bytes(whole[:length])
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.ckpt: no checkpoint to resume from"):
        load_checkpoint(tmp_path / "a.ckpt")


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.folder),)


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    folder, path = tmp_path / "made", tmp_path / "a.ckpt"
    save_checkpoint(path, {"trap": Trap(folder)})  # a right sha256, so that only weights_only stands in the way
    with pytest.raises(UserError, match="not a checkpoint of semisalt"):
        load_checkpoint(path)
    assert not folder.exists()


def test_plain_pickle_with_a_right_digest_is_refused(tmp_path: Path) -> None:
    payload = pickle.dumps({"trap": Trap(tmp_path / "made")}, protocol=2)
    header = b"semisalt checkpoint, sha256 " + hashlib.sha256(payload).hexdigest().encode()
    (tmp_path / "a.ckpt").write_bytes(header + b"\n" + payload)
    with pytest.raises(UserError, match="not a checkpoint of semisalt"):
        load_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "made").exists()
