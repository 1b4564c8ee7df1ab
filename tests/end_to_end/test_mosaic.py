"""Mosaics as a user makes, looks at, judges and uses them."""

import csv
import json
from pathlib import Path

import pytest

from semisalt.data.synthetic import write_survey
from tests.end_to_end.conftest import REPOSITORY, Command

RECIPE = REPOSITORY / "configs" / "test.yaml"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def neighbourly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 tiles of 64×64, enough of a section that most have a neighbour."""
    path = tmp_path_factory.mktemp("survey") / "data"
    write_survey(path, tiles=300, labelled=60, seed=5, shape=(64, 64))
    return path


def test_mosaics_from_the_command_line(semisalt: Command, neighbourly: Path, tmp_path: Path) -> None:
    data = ["--data", neighbourly]
    semisalt("mosaic", "build", *data, "--out", "mosaics")
    truth = {row["id"]: row for row in rows(neighbourly / "truth.csv")}
    sides = {"right": "right", "below": "down"}
    found = rows(tmp_path / "mosaics" / "neighbours.csv")
    right = [truth[row["id"]][sides[row["side"]]] == row["neighbour"] for row in found]
    assert len(right) > 100
    assert sum(right) >= 0.98 * len(right)

    words = ["--config", RECIPE, *data, "--set", "training.max_steps=4"]
    told = semisalt("baseline", *words, "--run", "plain").stdout
    assert "pairs of neighbouring labelled tiles lie in different folds" in told
    told = semisalt("baseline", *words, "--run", "grouped", "--set", "data.groups=mosaic").stdout
    assert "in different folds" not in told
    fold_of = {row["id"]: row["fold"] for row in rows(tmp_path / "runs" / "grouped" / "folds.csv")}
    mosaic_of = {row["id"]: row["mosaic"] for row in rows(tmp_path / "mosaics" / "mosaics.csv")}
    together: dict[str, set[str]] = {}
    for tile, fold in fold_of.items():
        if mosaic_of[tile] != "-1":
            together.setdefault(mosaic_of[tile], set()).add(fold)
    assert len(together) > 5
    assert all(len(folds) == 1 for folds in together.values())

    semisalt("predict", "plain", "--mosaic")
    unlabelled = [row["id"] for row in rows(neighbourly / "sample_submission.csv")]
    assert len(list((tmp_path / "runs" / "plain" / "predictions" / "mask").glob("*.png"))) == len(unlabelled)
    fields = ("id", "rule", "confidence", "reason")
    corrections = (tmp_path / "runs" / "plain" / "joined" / "corrections.csv").read_text().splitlines()
    assert tuple(corrections[0].split(",")) == fields
    assert {line.partition(",")[0] for line in corrections[1:]} <= set(unlabelled)
    semisalt("mosaic", "show", "mosaics", "--run", "plain")
    assert "<html" in next((tmp_path / "mosaics").glob("*.html")).read_text()[:500].lower()
    told = semisalt("mosaic", "evaluate", "plain", "--mosaics", "mosaics").stdout
    assert "continue below" in told
    results = json.loads((tmp_path / "runs" / "plain" / "results.json").read_text())
    assert results["mosaics"]

    semisalt("submit", "plain", "--mosaic")
    assert [row["id"] for row in rows(tmp_path / "runs" / "plain" / "submission.csv")] == unlabelled
    mistake = semisalt("predict", "plain", "tile.png", "--out", "x", "--mosaic", code=2)
    assert "--mosaic needs the neighbours" in mistake.stderr
