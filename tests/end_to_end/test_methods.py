"""Mean teacher and deep co-training through the real commands, killed and resumed, and what follows from their runs."""

import csv
import io
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semisalt.training.checkpoint import load_checkpoint
from tests.end_to_end.conftest import OPEN_CUTS, REPOSITORY, Command, kill, settled

# A kill falls between epochs; within one: tests/training/test_resume.py.
SETTINGS = ["training.epochs=3", "training.epoch_steps=4", "snapshots.keep=1"]
# Networks that have learned for twelve steps may see no salt at all.
SETTINGS += ["unlabelled.least_salt=0"]
RECIPE = ["--config", REPOSITORY / "configs" / "test.yaml", *(word for key in SETTINGS for word in ("--set", key))]


@pytest.mark.parametrize("command", ["teacher", "cotrain"])
def test_killed_and_resumed_equals_uninterrupted_and_its_run_is_like_any_other(
    command: str, semisalt: Command, survey_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = [command, *RECIPE, "--data", survey_path, "--label-fraction", "0.5", "--folds", "0"]
    whole, broken = tmp_path / "runs" / "whole", tmp_path / "runs" / "broken"
    trained = semisalt(*words, "--run", "whole").stdout
    # The second epoch's snapshot: the first one's checkpoint is there, and there is an epoch to come.
    kill([*words, "--run", "broken"], tmp_path, environment, broken / "fold0" / "snapshots" / "epoch0001.safetensors")
    assert 4 <= load_checkpoint(broken / "fold0" / "last.ckpt")["position"]["step"] < 12
    semisalt(command, "--run", "broken", "--folds", "0", "--resume")
    expected, found = settled(whole), settled(broken)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == expected[name], name

    # What it says of the method's health is there for people and for programs.
    results = json.loads((whole / "results.json").read_text())
    for fold in results["folds"].values():
        assert 0 <= fold["health"]["foreground"] <= 1
        assert fold["health"]["prior_foreground"] > 0
    assert "foreground" in trained
    assert "foreground" in semisalt("show", "whole").stdout
    events = EventAccumulator(str(whole / "tensorboard" / "fold0"))
    events.Reload()
    beside = {"teacher": {"score/student"}, "cotrain": {"score/view0", "score/view1"}}[command]
    assert set(events.Tags()["scalars"]) >= {"score", "health/foreground", "health/consistency_share", *beside}

    semisalt("predict", "whole")
    assert len(list((whole / "predictions" / "mask").glob("*.png"))) == 40
    semisalt("submit", "whole")
    # A warm start, and rounds of pseudo-labels, from it. The latter need one network's weights.
    semisalt(*words, "--from", "whole", "--run", "warm", "--set", "training.epochs=1")
    assert Path(json.loads((tmp_path / "runs" / "warm" / "provenance.json").read_text())["start"]) == whole


def test_a_teachers_run_gives_labels_and_is_compared(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    words = [*RECIPE, "--data", survey_path, "--label-fraction", "0.5", "--folds", "0"]
    semisalt("baseline", *words, "--run", "base")
    semisalt("teacher", *words, "--run", "taught")
    semisalt("pseudo", *words, *OPEN_CUTS, "--from", "taught", "--rounds", "1", "--run", "rounds")

    printed = semisalt("compare", "base", "taught", "round=runs/rounds/round1", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["run"] for row in rows] == ["base", "taught", "round"]
    assert [row["method"] for row in rows] == ["supervised", "mean teacher", "pseudo-labels, round 1"]
    scores = [
        json.loads((tmp_path / "runs" / name / "results.json").read_text())["at_half"]["precision"]["value"]
        for name in ("base", "taught", "rounds/round1")
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx(scores)
    assert float(rows[2]["difference"]) == pytest.approx(scores[2] - scores[0])
    assert "minus the first" in semisalt("compare", "base", "taught").stdout
    assert (
        semisalt("compare", "base", "taught", "--at", "cross-fitted", "--format", "markdown").stdout.count("\n|") == 4
    )

    # It sees less salt than the labels hold. Stopped for that, and let go on, the training is the same one.
    stopped = semisalt("teacher", *words, "--run", "strict", "--set", "unlabelled.least_salt=1", code=2).stderr
    assert "--resume and --set unlabelled.least_salt=0" in " ".join(stopped.split())
    least = ["--set", "unlabelled.least_salt=0"]
    told = semisalt("teacher", "--run", "strict", "--folds", "0", "--resume", *least).stdout
    assert "unlabelled.least_salt: 0.0 from now on, 1.0 before" in told
    assert settled(tmp_path / "runs" / "strict") == settled(tmp_path / "runs" / "taught")

    wrong = semisalt("baseline", "--run", "taught", "--resume", code=2).stderr
    assert "go on with: semisalt teacher --run taught --resume" in " ".join(wrong.split())

    semisalt("baseline", *words, "--run", "other", "--set", "seed=5")
    assert "fold 0 does not hold the same validation tiles" in semisalt("compare", "base", "other", code=2).stderr
    assert "alone cannot be compared" in semisalt("compare", "base", code=2).stderr
