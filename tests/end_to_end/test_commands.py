"""The commands, from a folder of tiles to a submission."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from semisalt.data import rle
from semisalt.recipe import load_config
from tests.end_to_end.conftest import OPEN_CUTS, REPOSITORY, Command, two_steps

TEST_RECIPE = REPOSITORY / "configs" / "test.yaml"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["baseline"],
        ["teacher"],
        ["cotrain"],
        ["predict"],
        ["submit"],
        ["show"],
        ["compare"],
        ["pseudo"],
        ["pseudo", "inspect"],
        ["doctor"],
        ["bench"],
        ["data", "check"],
        ["data", "synth"],
        ["data", "fetch"],
    ],
    ids=lambda words: " ".join(words) or "semisalt",
)
def test_help_shows_an_example(semisalt: Command, words: list[str]) -> None:
    help_text = semisalt(*words, "--help").stdout
    assert "Usage" in help_text
    if words:
        assert f"Example: semisalt {' '.join(words)}" in " ".join(help_text.split())


def test_from_tiles_to_a_submission(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    trained = semisalt("baseline", "--config", TEST_RECIPE, "--data", survey_path, "--run", "first")
    assert "cross-fitted" in trained.stdout
    run = tmp_path / "runs" / "first"

    results = json.loads((run / "results.json").read_text())
    assert set(results["folds"]) == {"0", "1"}
    with (run / "oof.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    oof = np.load(run / "oof.npy")
    assert oof.shape == (results["tiles"], 48, 40)
    assert len({row["id"] for row in rows}) == len(rows) == len(oof)

    semisalt("predict", "first")
    with (survey_path / "sample_submission.csv").open() as handle:
        expected = [row["id"] for row in csv.DictReader(handle)]
    for kind in ("probability", "mask"):
        assert {file.stem for file in (run / "predictions" / kind).glob("*.png")} == set(expected)

    semisalt("submit", "first")
    with (run / "submission.csv").open() as handle:
        submission = list(csv.DictReader(handle))
    assert [row["id"] for row in submission] == expected
    # The submission's run lengths are the masks that `predict` wrote.
    for row in submission:
        mask = cv2.imread(str(run / "predictions" / "mask" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(rle.decode(row["rle_mask"], (48, 40)), mask > 0)

    assert f"{results['cross_fitted']['value']:.3f}".lstrip("0") in semisalt("show", "first").stdout
    mistake = semisalt("predict", "first", "tile.png", code=2).stderr
    assert "add --out FOLDER: runs/first/predictions is kept" in " ".join(mistake.split())


def test_two_processes_train_one_run(survey_path: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "semisalt", "--"]
    words = ["--config", TEST_RECIPE, "--data", survey_path, "--folds", "0"]
    commands = {
        "both": ["baseline", *words, "--run", "both"],
        "rounds/round1": ["pseudo", *words, *OPEN_CUTS, "--from", "both", "--rounds", "1", "--run", "rounds"],
    }
    for run, command in commands.items():
        done = subprocess.run(
            [sys.executable, *together, *map(str, command)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("curves:") == 1  # one of them speaks
        assert json.loads((tmp_path / "runs" / run / "results.json").read_text())["folds"].keys() == {"0"}
        log = (tmp_path / "runs" / run / "fold0" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in log] == [0, 1]  # and one of them writes


def test_predictions_know_their_data(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "before"
    shutil.copytree(survey_path, moved)
    words = ["--config", TEST_RECIPE, "--run", "moved", "--folds", "0", "--set", "training.max_steps=1"]
    semisalt("baseline", *words, "--data", moved)
    moved.rename(tmp_path / "after")
    assert "give it by --data" in semisalt("submit", "moved", code=2).stderr
    semisalt("submit", "moved", "--data", "after")
    next((tmp_path / "after" / "test" / "images").glob("*.png")).unlink()
    with (tmp_path / "after" / "sample_submission.csv").open() as handle:
        rows = list(csv.reader(handle))
    left = {file.stem for file in (tmp_path / "after" / "test" / "images").glob("*.png")} | {"id"}
    with (tmp_path / "after" / "sample_submission.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(row for row in rows if row[0] in left)
    assert "is not what" in semisalt("submit", "moved", "--data", "after", code=2).stderr


def test_single_files_are_predicted(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    words = ["--config", TEST_RECIPE, "--data", survey_path, "--run", "files", "--folds", "0"]
    semisalt("baseline", *words, "--set", "channels.depth=false")
    files = sorted((survey_path / "test" / "images").glob("*.png"))[:3]
    semisalt("predict", "files", *files, "--out", "masks")
    assert [file.name for file in sorted((tmp_path / "masks" / "mask").glob("*.png"))] == [f.name for f in files]


def test_a_limited_run_still_submits_every_tile(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    words = ["--config", TEST_RECIPE, "--data", survey_path, "--run", "few", "--folds", "1"]
    semisalt("baseline", *words, "--unlabelled-limit", "7", "--label-fraction", "0.5")
    run = tmp_path / "runs" / "few"
    semisalt("predict", "few")
    assert len(np.load(run / "unlabelled" / "fold1.npy")) == 7
    semisalt("submit", "few")
    assert len((run / "submission.csv").read_text().splitlines()) == 41
    with (run / "folds.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    used = sum(row["label_used"] == "1" for row in rows)
    assert used == pytest.approx(len(rows) / 2, abs=1)


def test_label_fraction_keeps_the_validation_tiles(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    for name, fraction in (("all", "1.0"), ("half", "0.5")):
        words = ["--config", TEST_RECIPE, "--data", survey_path, "--run", name, "--folds", "0"]
        semisalt("baseline", *words, "--label-fraction", fraction, "--set", "training.max_steps=1")
    tables = [(tmp_path / "runs" / name / "oof.csv").read_text() for name in ("all", "half")]
    assert tables[0] == tables[1]


# Those of pseudo-labels run in test_pseudo.py, their round 0 too.
RECIPES = [
    path for path in sorted((REPOSITORY / "configs").glob("*.yaml")) if not path.stem.startswith(("study", "pseudo"))
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_two_steps(semisalt: Command, survey_path: Path, tmp_path: Path, recipe: Path) -> None:
    semisalt(load_config(recipe).command, *two_steps(recipe), "--data", survey_path, "--folds", "0")
    result = json.loads((tmp_path / "runs" / recipe.stem / "fold0" / "result.json").read_text())
    assert result["steps"] == 2


def test_mistakes_end_with_code_2_and_a_way_out(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    cases = {
        ("baseline", "--data", "nowhere"): "nowhere: does not exist",
        ("baseline", "--set", "training.epoch=3"): "did you mean 'training.epochs'?",
        ("baseline", "--config", "none.yaml"): "none.yaml: cannot read",
        ("baseline", "--data", survey_path, "--resume"): "not a run",
        ("baseline", "--config", TEST_RECIPE, "--data", survey_path, "--folds", "7"): "folds are 0 to 1",
        ("show", "absent"): "absent is not a run",
        ("predict", "absent"): "absent is not a run",
        ("baseline", "--data", survey_path, "--set", "model.weights=none.pth"): "none.pth",
        ("data", "synth", survey_path): "not an empty folder",
        ("data", "synth", "file/new", "--tiles", "3", "--size", "32x32"): "Not a directory: choose another place",
        ("baseline", "--config", TEST_RECIPE, "--data", survey_path, "--run", "file"): "file: ",
        ("data", "synth", "new", "--labelled", "3.7"): "--labelled 3.7: neither a share under 1 nor a number of tiles",
    }
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "file").write_text("no folder")
    for words, message in cases.items():
        done = semisalt(*words, code=2)
        assert message in " ".join(done.stderr.split()), (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_bad_tiles_are_all_named_before_training(semisalt: Command, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    (bad / "images").mkdir(parents=True)
    (bad / "masks").mkdir()
    tile = np.full((32, 32), 90, np.uint8)
    for name in ("good", "truncated", "maskless"):
        cv2.imwrite(str(bad / "images" / f"{name}.png"), tile)
    for name in ("good", "truncated", "imageless"):
        cv2.imwrite(str(bad / "masks" / f"{name}.png"), np.zeros((32, 32), np.uint8))
    whole = (bad / "images" / "truncated.png").read_bytes()
    (bad / "images" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    done = semisalt("baseline", "--config", TEST_RECIPE, "--data", bad, code=2)
    for name in ("truncated.png", "maskless", "imageless"):
        assert name in done.stderr
    assert not (tmp_path / "runs" / "test").exists()


def test_data_check_names_every_problem(semisalt: Command, survey_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(survey_path, bad)
    orphans = sorted((bad / "train" / "images").glob("*.png"))[:30]
    for image in orphans:
        image.unlink()
    told = semisalt("data", "check", bad, code=2).stderr
    found = json.loads(semisalt("data", "check", bad, "--json", code=2).stdout)["problems"]
    for image in orphans:
        assert image.stem in told
        assert any(image.stem in problem for problem in found)
    assert len(found) >= 30


def test_data_check_speaks_json(semisalt: Command, survey_path: Path) -> None:
    description = json.loads(semisalt("data", "check", survey_path, "--json").stdout)
    assert (description["labelled"], description["unlabelled"]) == (40, 40)
    assert (description["height"], description["width"]) == (48, 40)


def test_doctor_and_bench_report_this_machine(semisalt: Command, tmp_path: Path) -> None:
    told = semisalt("doctor", "--config", TEST_RECIPE).stdout
    for word in ("torch", "memory", "precision", "bundled"):
        assert word in told.lower(), word
    measured = semisalt("bench", "--config", TEST_RECIPE, "--seconds", "1", "--set", "data.workers=0").stdout
    for word in ("tiles/s", "matmul", "loop over bare", "%"):
        assert word in measured.lower(), word
    assert not (tmp_path / "runs").exists()
