"""A study as a user runs, watches and reads it."""

import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from semisalt.data.rle import encode
from semisalt.inference.threshold import Operating, apply
from semisalt.recipe import load_config
from tests.end_to_end.conftest import REPOSITORY, Command, arguments

RECIPE = {
    "model.scse_decoder": False,
    "model.hypercolumn": False,
    "training.epochs": 2,
    "training.batch": 4,
}
STUDY = {
    "config": str(REPOSITORY / "configs" / "test.yaml"),
    "set": RECIPE,
    "folds": [0],
    "holdout": 0.2,
    "trials": 3,
    "heartbeat": 1,
    "space": {
        "schedule.peak": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "loss.switch_epoch": {"kind": "int", "low": 0, "high": 1},
    },
}


@pytest.mark.parametrize("words", ["run", "status", "best", "report", "board"])
def test_help_shows_an_example(semisalt: Command, words: str) -> None:
    assert f"Example: semisalt study {words}" in " ".join(semisalt("study", words, "--help").stdout.split())


def test_a_study_is_killed_goes_on_and_is_read(
    semisalt: Command, survey_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    words = ["study", "run", "study.yaml", "--data", survey_path, "--run", "mine"]
    process = subprocess.Popen(arguments(words), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    study = tmp_path / "runs" / "mine"
    deadline = time.monotonic() + 240
    while not list(study.glob("trial0000/fold0/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "running" in semisalt("study", "status", "mine").stdout

    done = semisalt(*words)
    assert "tiles that the search never saw" in done.stdout
    assert "best so far" in semisalt("study", "status", "mine").stdout
    best = semisalt("study", "best", "mine").stdout
    assert "schedule.peak" in best
    report = semisalt("study", "report", "mine").stdout
    assert "page: runs/mine/report.html" in report.replace("\n", "")
    assert (study / "report.html").stat().st_size > 10_000
    assert len(list(study.glob("trial*/results.json"))) == 3
    # The recipe that was found is one that any command takes.
    semisalt("baseline", "--config", study / "best.yaml", "--data", survey_path, "--folds", "0", "--run", "again")

    assert "holdout: 0.2 in the study, 0.5 asked for" in _refused(semisalt, tmp_path, survey_path, {"holdout": 0.5})
    narrow = {**STUDY["space"], "loss.switch_epoch": {"kind": "int", "low": 0, "high": 3}}  # type: ignore[dict-item]
    assert "space: loss.switch_epoch" in _refused(semisalt, tmp_path, survey_path, {"space": narrow})

    # The level without training, on the run that was just made.
    space = {"threshold": {"kind": "float", "low": 0.3, "high": 0.7}, "min_salt": {"kind": "int", "low": 0, "high": 40}}
    (tmp_path / "cut.yaml").write_text(yaml.safe_dump({"level": "threshold", "holdout": 0.3, "space": space}))
    cut = semisalt("study", "run", "cut.yaml", "--from", "again", "--trials", "12").stdout
    assert "12 trials on " in cut
    assert "tiles that the search never saw" in cut
    assert "threshold" in semisalt("study", "best", "cut").stdout
    semisalt("predict", "again", "--study", "cut")
    masks = sorted(file.name for file in (tmp_path / "runs" / "cut" / "predictions" / "mask").glob("*.png"))
    semisalt("submit", "again", "--study", "cut")
    rows = list(csv.DictReader((study.parent / "cut" / "submission.csv").open()))
    assert sorted(f"{row['id']}.png" for row in rows) == masks
    found = load_config(study.parent / "cut" / "best.yaml").inference
    point = Operating(found.thresholds[0], found.min_salts[0], found.min_holes[0])
    cut_masks = apply(np.load(study.parent / "cut" / "unlabelled" / "fold0.npy"), point)
    assert sorted(encode(mask) for mask in cut_masks) == sorted(row["rle_mask"] for row in rows)
    assert not (tmp_path / "runs" / "again" / "predictions").exists()
    assert "leave out --study" in semisalt("predict", "again", "--study", "cut", "--mosaic", code=2).stderr
    assert "runs of their own" in semisalt("submit", "again", "--study", "mine", code=2).stderr


def test_mistakes_end_with_code_2_and_a_way_out(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / "cut.yaml").write_text(
        yaml.safe_dump({"level": "threshold", "space": {"threshold": {"kind": "float", "low": 0.3, "high": 0.7}}})
    )
    cases = {
        ("study", "run", "study.yaml", "--timeout", "2"): "for example 2h or 3h50m",
        ("study", "run", "study.yaml", "--data", survey_path, "--storage", "sqlite:///x.db"): "needs PostgreSQL",
        ("study", "run", "study.yaml", "--from", "cpu"): "level threshold",
        ("study", "run", "cut.yaml"): "--from RUN",
        ("study", "run", "cut.yaml", "--from", "absent"): "absent is not a run",
        ("study", "status", "absent"): "absent is not a study",
    }
    for words, message in cases.items():
        done = semisalt(*words, code=2)
        assert message in " ".join(done.stderr.split()), (words, done.stderr)
        assert "Traceback" not in done.stderr


def _refused(semisalt: Command, folder: Path, survey: Path, keys: dict[str, object]) -> str:
    (folder / "other.yaml").write_text(yaml.safe_dump({**STUDY, **keys}))
    return semisalt("study", "run", "other.yaml", "--data", survey, "--run", "mine", code=2).stderr
