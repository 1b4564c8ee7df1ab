import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semisalt.data.fetch import fetch
from semisalt.data.read import load_survey
from semisalt.errors import UserError

FAULTS = ("UnauthenticatedError", "CredentialError", "BackendError", "DataCorruptionError")


@pytest.fixture
def kagglehub(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in with kagglehub's names; its download is for the test to set."""
    module, faults = ModuleType("kagglehub"), ModuleType("kagglehub.exceptions")
    for name in FAULTS:
        setattr(faults, name, type(name, (Exception,), {}))
    module.__dict__["exceptions"] = faults
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    monkeypatch.setitem(sys.modules, "kagglehub.exceptions", faults)
    return module


def test_the_download_is_copied_and_readable(
    small: Any, write: Callable[[Mapping[str, bytes]], Path], tmp_path: Path, kagglehub: ModuleType
) -> None:
    asked = []
    downloaded = write(small.packed() | {"flamingo.zip": b"something else"})

    def download(name: str) -> str:
        asked.append(name)
        return str(downloaded)

    kagglehub.__dict__["competition_download"] = download
    target = tmp_path / "data" / "tgs"
    assert fetch(target) == target
    assert asked == ["tgs-salt-identification-challenge"]
    assert {file.name: file.read_bytes() for file in target.iterdir()} == small.packed()
    assert list(target.parent.iterdir()) == [target]
    assert len(load_survey(target, None).labelled) == 4
    with pytest.raises(UserError, match="exists already"):
        fetch(target)


@pytest.mark.parametrize("name", FAULTS)
def test_failures_give_the_manual_steps(tmp_path: Path, kagglehub: ModuleType, name: str) -> None:
    def download(_: str) -> str:
        raise getattr(kagglehub.exceptions, name)("reason given")

    kagglehub.__dict__["competition_download"] = download
    with pytest.raises(UserError, match="reason given") as caught:
        fetch(tmp_path / "tgs")
    assert "accept the rules" in str(caught.value)
    assert ("no Kaggle login" in str(caught.value)) == (name in FAULTS[:2])
    assert not (tmp_path / "tgs").exists()


def test_a_lost_connection_gives_the_manual_steps(tmp_path: Path, kagglehub: ModuleType) -> None:
    def download(_: str) -> str:
        raise ConnectionError("offline")

    kagglehub.__dict__["competition_download"] = download
    with pytest.raises(UserError, match="offline"):
        fetch(tmp_path / "tgs")


def test_an_unknown_download_is_not_kept(tmp_path: Path, kagglehub: ModuleType) -> None:
    (tmp_path / "odd").mkdir()
    kagglehub.__dict__["competition_download"] = lambda _: str(tmp_path / "odd")
    with pytest.raises(UserError, match="holds nothing known"):
        fetch(tmp_path / "tgs")
    assert not (tmp_path / "tgs").exists()


def test_a_missing_kagglehub_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match=r"pip install 'semisalt\[kaggle\]'"):
        fetch(tmp_path / "tgs")
