from pathlib import Path

import pytest

from semisalt.data import source
from semisalt.data.source import choose_source


def test_the_given_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "tgs").mkdir(parents=True)
    assert choose_source(Path("mine"))[0] == Path("mine")


def test_the_competition_comes_before_the_synthetic_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "tgs").mkdir(parents=True)
    (tmp_path / "data" / "synthetic").mkdir()
    path, sentence = choose_source(None)
    assert path == Path("data/tgs")
    assert "data/tgs" in sentence


def test_the_synthetic_survey_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.mkdir(parents=True)

    monkeypatch.setattr(source, "write_survey", make)
    for _ in range(2):
        path, sentence = choose_source(None)
        assert path == Path("data/synthetic")
        assert "synthetic survey" in sentence
    assert made == [Path("data/synthetic")]
