"""kill -9 at any moment, then --resume: the finished run equals an uninterrupted one to the bit."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import REPOSITORY, Command, arguments, kill, settled

# A checkpoint every few steps, so that a kill falls within an epoch, too.
SETTINGS = ["--set", "training.epochs=3", "--set", "training.checkpoint_minutes=0.000001"]
WORDS = ["--config", REPOSITORY / "configs" / "test.yaml", *SETTINGS]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, survey_path: Path, environment: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    words = ["baseline", *WORDS, "--data", survey_path, "--run", "run"]
    subprocess.run(arguments(words), cwd=folder, env=environment, check=True, capture_output=True, timeout=300)
    return folder / "runs" / "run"


@pytest.mark.parametrize("moment", ["fold0/metrics.jsonl", "fold0/oof.npy", "fold1/last.ckpt"])
def test_killed_and_resumed_equals_uninterrupted(
    semisalt: Command,
    survey_path: Path,
    tmp_path: Path,
    environment: dict[str, str],
    uninterrupted: Path,
    moment: str,
) -> None:
    words = ["baseline", *WORDS, "--data", survey_path, "--run", "run"]
    run = tmp_path / "runs" / "run"
    kill(words, tmp_path, environment, run / moment)
    assert not (run / "results.json").exists()

    semisalt(*words, "--resume")
    expected, found = settled(uninterrupted), settled(run)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == expected[name], name


def test_sigterm_saves_and_exits_with_143(
    semisalt: Command, survey_path: Path, tmp_path: Path, environment: dict[str, str], uninterrupted: Path
) -> None:
    words = ["baseline", *WORDS, "--data", survey_path, "--run", "run"]
    process = subprocess.Popen(arguments(words), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    run = tmp_path / "runs" / "run"
    while not (run / "fold0" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.terminate()
    assert process.wait(timeout=120) == 143
    # A run that goes on has its recipe and its data.
    semisalt("baseline", "--run", "run", "--resume")
    assert settled(run) == settled(uninterrupted)


def test_resume_refuses_what_is_different(
    semisalt: Command, survey_path: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "runs" / "run")
    words = ["baseline", *WORDS, "--data", survey_path, "--run", "run"]
    done = semisalt(*words, "--resume", "--set", "training.batch=4", code=2)
    assert "training.batch: 8 in the run, 4 asked for" in done.stderr
    done = semisalt("baseline", "--run", "run", "--resume", "--label-fraction", "0.5", code=2)
    assert done.stderr.count("asked for") == 1
    done = semisalt(*words, code=2)
    assert "add --resume" in done.stderr
    other = tmp_path / "other"
    semisalt("data", "synth", other, "--tiles", "60", "--labelled", "30", "--size", "48x40", "--seed", "9")
    done = semisalt("baseline", *WORDS, "--data", other, "--run", "run", "--resume", code=2)
    assert "data: fingerprint" in done.stderr


def test_a_run_in_use_is_refused(
    semisalt: Command, survey_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["baseline", *WORDS, "--data", survey_path, "--run", "run"]
    process = subprocess.Popen(arguments(words), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "runs" / "run" / "config.yaml").exists():
            assert process.poll() is None
            time.sleep(0.005)
        done = semisalt(*words, "--resume", code=2)
        assert f"in use by pid {process.pid} on" in done.stderr
    finally:
        process.kill()
        process.wait()
