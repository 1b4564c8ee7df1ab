"""A small synthetic survey and the real commands, run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from semisalt.data.synthetic import write_survey

REPOSITORY = Path(__file__).resolve().parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def survey_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 synthetic tiles of 48×40, 40 of them labelled."""
    path = tmp_path_factory.mktemp("survey") / "data"
    write_survey(path, tiles=80, labelled=40, seed=3, shape=(48, 40))
    return path


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's environment with a cache of its own, one thread (tiny networks lose time to more), no terminal."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}


def arguments(words: Sequence[str | Path]) -> list[str]:
    """The command line of `semisalt` with these words."""
    return [sys.executable, "-m", "semisalt", *(str(word) for word in words)]


@pytest.fixture
def semisalt(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Run `semisalt WORDS…` in an empty folder; the exit code is checked against `code`."""

    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            arguments(words), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, f"{words} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
