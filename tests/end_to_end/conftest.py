"""A small synthetic survey and the real commands, run as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from semisalt.data.synthetic import write_survey
from semisalt.training.log import read_metrics

REPOSITORY = Path(__file__).resolve().parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]
# So short a training teaches next to nothing: pseudo-labels are taken whatever they are.
OPEN_CUTS = [
    word
    for cut in ("decided=0", "mirrored=0", "quotas=false", "min_area=0", "max_coverage=1", "threshold=0.01")
    for word in ("--set", f"pseudo.{cut}")
]


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


def two_steps(recipe: Path) -> list[str]:
    """The words that let a recipe train for two steps on a CPU without a hub; everything else is the recipe's.

    Neither the eight processes that feed a GPU nor the search for the quickest precision are worth their time here.
    """
    settings = ["training.max_steps=2", "training.batch=8", "training.precision=fp32", "data.workers=0"]
    if "weights: imagenet" in recipe.read_text():
        settings.append("model.weights=none")
    return ["--config", str(recipe), *(word for setting in settings for word in ("--set", setting))]


def arguments(words: Sequence[str | Path]) -> list[str]:
    """The command line of `semisalt` with these words."""
    return [sys.executable, "-m", "semisalt", *(str(word) for word in words)]


@pytest.fixture(scope="session")
def preloaded(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that runs commands without importing the libraries anew for each."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.preloaded"],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.communicate()


@pytest.fixture
def semisalt(tmp_path: Path, environment: dict[str, str], preloaded: subprocess.Popen[str]) -> Command:
    """Run `semisalt WORDS…` in an empty folder; the exit code is checked against `code`."""
    orders, answers = preloaded.stdin, preloaded.stdout
    assert orders is not None
    assert answers is not None

    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            output, errors = Path(folder) / "output", Path(folder) / "errors"
            order = {
                "words": [str(word) for word in words],
                "folder": str(tmp_path),
                "environment": environment,
                "output": str(output),
                "errors": str(errors),
            }
            print(json.dumps(order), file=orders, flush=True)
            ended = int(answers.readline())
            done = subprocess.CompletedProcess(order["words"], ended, output.read_text(), errors.read_text())
        assert done.returncode == code, f"{words} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def kill(words: Sequence[str | Path], folder: Path, environment: dict[str, str], moment: Path) -> None:
    """Start `semisalt WORDS…` in `folder`, and kill it as soon as the file `moment` is there."""
    process = subprocess.Popen(arguments(words), cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not moment.exists():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def settled(run: Path) -> dict[str, object]:
    """Everything a run leaves that does not tell the time."""
    content: dict[str, object] = {"oof": np.load(run / "oof.npy").tobytes()}
    for file in sorted(run.rglob("*.safetensors")):
        content[str(file.relative_to(run))] = file.read_bytes()
    for file in sorted(run.rglob("metrics.jsonl")):
        content[str(file.relative_to(run))] = [
            {key: value for key, value in record.items() if key != "seconds"} for record in read_metrics(file)
        ]
    results = json.loads((run / "results.json").read_text())
    for fold in results["folds"].values():
        del fold["seconds"]
    content["results"] = results
    return content
