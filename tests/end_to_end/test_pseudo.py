"""Rounds of pseudo-labels as a user runs them, and killed wherever they are."""

import csv
import json
import signal
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.end_to_end.conftest import OPEN_CUTS, REPOSITORY, Command, two_steps
from tests.pseudo import jobs as pseudo_jobs
from tests.pseudo.made import config_of
from tests.training import jobs
from tests.training.test_resume import assert_equal, content

WORDS = ["--config", REPOSITORY / "configs" / "test.yaml", "--set", "pseudo.decided=0", "--set", "pseudo.quotas=false"]
# A checkpoint after every look, and soft labels of everything that is not blank.
CONFIG = config_of(
    training={"patience": None, "epochs": 2, "checkpoint_minutes": 1e-9}, pseudo={"labels": "soft", "start": "previous"}
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The rounds and the notes of what was predicted."""
    folder = tmp_path_factory.mktemp("whole")
    path, notes = folder / "rounds", folder / "notes"
    assert jobs.run(pseudo_jobs.two_rounds, path, CONFIG, False, None, notes, timeout=600) == [0]
    return path, notes


def compare(path: Path, expected: Path) -> None:
    """Every file that tells no time and no place: labels, weights, probabilities, results."""
    for number in range(3):
        run, other = path / f"round{number}", expected / f"round{number}"
        mine, theirs = content(run), content(other)
        assert mine.keys() == theirs.keys()
        for name in mine:
            if name.endswith("provenance.json"):
                # The source tree may be edited while the test runs.
                mine[name], theirs[name] = ({**each[name], "commit": ""} for each in (mine, theirs))
                mine[name] = json.loads(json.dumps(mine[name]).replace(str(path), str(expected)))
            assert mine[name] == theirs[name], (number, name)


def test_uninterrupted_rounds_are_whole(uninterrupted: tuple[Path, Path]) -> None:
    path, notes = uninterrupted
    for number in (1, 2):
        files = set(content(path / f"round{number}"))
        assert {"labels/fold0/labels.npy", "labels/fold0/tiles.csv", "oof.npy", "fold0/averaged.safetensors"} <= files
    assert len({(path / f"round{number}" / "oof.npy").read_bytes() for number in range(3)}) == 3
    assert len({(path / f"round{number}" / "labels" / "fold0" / "labels.npy").read_bytes() for number in (1, 2)}) == 2
    # 20 bare tiles in chunks of 8, and the 15 that lost their labels: 5 chunks a round, each predicted once.
    lines = Counter(notes.read_text().splitlines())
    assert sum(lines.values()) == len(lines) == 2 * (3 + 2)


def test_killed_everywhere_and_resumed(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    path, notes = tmp_path / "rounds", tmp_path / "notes"
    for at, moment in enumerate(pseudo_jobs.MOMENTS):
        killed = jobs.run(pseudo_jobs.two_rounds, path, CONFIG, at > 0, moment, notes, timeout=600)
        assert killed == [-signal.SIGKILL], moment
    assert jobs.run(pseudo_jobs.two_rounds, path, CONFIG, True, None, notes, timeout=600) == [0]
    compare(path, uninterrupted[0])
    kept, expected = (json.loads((where / "rounds.json").read_text()) for where in (path, uninterrupted[0]))
    for line, other in zip(kept["rounds"], expected["rounds"], strict=True):
        assert {**line, "run": "", "seconds": 0} == {**other, "run": "", "seconds": 0}
    # Nothing was predicted twice but the one chunk whose note was not written yet.
    counts = Counter(notes.read_text().splitlines())
    assert counts.keys() == Counter(uninterrupted[1].read_text().splitlines()).keys()
    assert sorted(counts.values()) == [1] * (len(counts) - 1) + [2]


def test_another_label_trains_otherwise(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    """The comparison can fail: hard labels give other weights."""
    path = tmp_path / "rounds"
    other = config_of(
        training={"patience": None, "epochs": 2, "checkpoint_minutes": 1e-9}, pseudo={"start": "previous"}
    )
    assert jobs.run(pseudo_jobs.two_rounds, path, other, False, None, tmp_path / "notes", timeout=600) == [0]
    assert_equal(path / "round0" / "fold0" / "snapshots", uninterrupted[0] / "round0" / "fold0" / "snapshots")
    mine, theirs = (
        (where / "round1" / "fold0" / "averaged.safetensors").read_bytes() for where in (path, uninterrupted[0])
    )
    assert mine != theirs


def test_rounds_from_the_command_line(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    done = semisalt(
        "pseudo", *WORDS, "--data", survey_path, "--run", "salt", "--rounds", "1", "--folds", "0",
        "--label-fraction", "0.5", "--unlabelled-limit", "20",
    )  # fmt: skip
    path = tmp_path / "runs" / "salt"
    assert "Result: round" in done.stdout
    assert "minus round 0" in done.stdout
    with (path / "round1" / "labels" / "fold0" / "tiles.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    taken = sum(row["verdict"] == "taken" for row in rows)
    assert 20 < len(rows) < 40
    assert taken > 0
    assert len(np.load(path / "round0" / "unlabelled" / "fold0.npy")) == 20

    looked = semisalt("pseudo", "inspect", "salt", "--round", "1")
    counted = [line.split() for line in looked.stdout.splitlines() if line.split()[:1] == ["taken"]]
    assert [int(counted[0][1]) + int(counted[0][3])] == [taken]
    picture = cv2.imread(str(path / "round1" / "gallery-fold0.png"))
    assert picture is not None

    # Rounds that go on know what they were begun with; one more is trained.
    results = (path / "round1" / "results.json").read_text()
    more = semisalt("pseudo", "--run", "salt", "--rounds", "2", "--no-early-stop", "--resume")
    assert "All 2 rounds were run." in more.stdout
    assert (path / "round1" / "results.json").read_text() == results
    changed = semisalt("pseudo", "--run", "salt", "--resume", "--set", "pseudo.decided=0.5", code=2)
    assert "pseudo.decided: 0 in the run, 0.5 asked for" in changed.stderr.replace("0.0", "0")
    # A round is a run like any other.
    semisalt("show", "salt/round1")
    again = semisalt("pseudo", *WORDS, "--data", survey_path, "--run", "salt", code=2)
    assert "add --resume" in again.stderr
    absent = " ".join(semisalt("pseudo", "inspect", "salt", "--round", "3", code=2).stderr.split())
    assert absent == "error: runs/salt holds no round 3: there are round1, round2"
    assert "labels are there for fold 0" in semisalt("pseudo", "inspect", "salt", "--fold", "1", code=2).stderr


@pytest.mark.parametrize("recipe", sorted((REPOSITORY / "configs").glob("pseudo*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_rounds_runs_two_steps(
    semisalt: Command, survey_path: Path, tmp_path: Path, recipe: Path
) -> None:
    """Two steps teach nothing, so that the cuts are opened; the rest is the recipe's."""
    words = [*two_steps(recipe), "--data", survey_path, "--folds", "0", "--rounds", "1", *OPEN_CUTS]
    semisalt("pseudo", *words, "--unlabelled-limit", "8")
    rounds = tmp_path / "runs" / recipe.stem
    results = [json.loads((rounds / f"round{number}" / "fold0" / "result.json").read_text()) for number in (0, 1)]
    assert [result["steps"] for result in results] == [2, 2]
    assert results[1]["training_tiles"] > results[0]["training_tiles"]
    assert (rounds / "best").resolve() in ((rounds / "round0").resolve(), (rounds / "round1").resolve())
