"""A training that was killed or stopped, and resumed, equals an uninterrupted one to the bit."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.config import Config
from semisalt.training.log import read_metrics
from tests.tiny import tiny_config
from tests.training import jobs

# A checkpoint at every look, an average of the weights, a process that augments: everything that resuming must restore.
CONFIG = tiny_config(
    data={"workers": 1},
    training={"checkpoint_minutes": 1e-9, "ema_decay": 0.7},
    optimiser={"clip_norm": 1.0},
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    assert jobs.run(jobs.train, path, CONFIG, False, None) == [0]
    return path


def content(run: Path) -> dict[str, Any]:
    """Every file of a run that does not tell the time."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(file.relative_to(run))
        if name.startswith("tensorboard") or name in (".lock", "fold0/last.ckpt"):
            continue
        if file.suffix == ".jsonl":
            found[name] = [without_seconds(record) for record in read_metrics(file)]
        elif file.suffix == ".json":
            found[name] = without_seconds(json.loads(file.read_text()))
        else:
            found[name] = file.read_bytes()
    return found


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if key != "seconds"}
    return value


def assert_equal(run: Path, expected: Path) -> None:
    mine, other = content(run), content(expected)
    assert mine.keys() == other.keys()
    for name in mine:
        assert mine[name] == other[name], name


def test_uninterrupted_run_is_whole(uninterrupted: Path) -> None:
    names = set(content(uninterrupted))
    expected = {"oof.npy", "oof.csv", "folds.csv", "config.yaml", "provenance.json", "results.json"}
    expected |= {f"fold0/{name}" for name in ("oof.npy", "tiles.csv", "result.json", "metrics.jsonl")}
    expected |= {f"fold0/snapshots/epoch000{epoch}.safetensors" for epoch in (1, 2)}
    assert names == expected | {"fold0/averaged.safetensors"}
    assert [record["step"] for record in read_metrics(uninterrupted / "fold0" / "metrics.jsonl")] == [4, 8, 12]
    assert len(np.unique(np.load(uninterrupted / "oof.npy"))) > 10


@pytest.mark.parametrize("moment", [name for name in jobs._MOMENTS if name.startswith("kill")])
def test_killed_and_resumed(uninterrupted: Path, tmp_path: Path, moment: str) -> None:
    path = tmp_path / "run"
    assert jobs.run(jobs.train, path, CONFIG, False, moment) == [-signal.SIGKILL]
    assert not (path / "results.json").exists()
    assert jobs.run(jobs.train, path, CONFIG, True, None) == [0]
    assert_equal(path, uninterrupted)


def test_killed_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    moments = ["kill within an epoch", "kill between snapshot and checkpoint", "kill while the fold is finished"]
    for at, moment in enumerate(moments):
        assert jobs.run(jobs.train, path, CONFIG, at > 0, moment) == [-signal.SIGKILL]
    assert jobs.run(jobs.train, path, CONFIG, True, None) == [0]
    assert_equal(path, uninterrupted)


@pytest.mark.parametrize("moment", [name for name in jobs._MOMENTS if name.startswith("stop")])
def test_sigterm_saves_and_leaves_with_143(uninterrupted: Path, tmp_path: Path, moment: str) -> None:
    path = tmp_path / "run"
    assert jobs.run(jobs.train, path, CONFIG, False, moment) == [143]
    assert (path / "fold0" / "last.ckpt").exists()
    assert not (path / "fold0" / "result.json").exists()
    assert jobs.run(jobs.train, path, CONFIG, True, None) == [0]
    assert_equal(path, uninterrupted)


def test_finished_run_is_not_trained_again(uninterrupted: Path) -> None:
    before = content(uninterrupted), (uninterrupted / "fold0" / "last.ckpt").stat().st_mtime_ns
    assert jobs.run(jobs.train, uninterrupted, CONFIG, True, "kill before any checkpoint") == [0]
    assert (content(uninterrupted), (uninterrupted / "fold0" / "last.ckpt").stat().st_mtime_ns) == before


def test_another_recipe_trains_otherwise(uninterrupted: Path, tmp_path: Path) -> None:
    """The comparison can fail: one number changed changes the weights."""
    changed = Config.model_validate(
        {**CONFIG.model_dump(), "optimiser": {**CONFIG.optimiser.model_dump(), "clip_norm": 0.9}}
    )
    assert jobs.run(jobs.train, tmp_path / "run", changed, False, None) == [0]
    mine, other = content(tmp_path / "run"), content(uninterrupted)
    assert mine["fold0/averaged.safetensors"] != other["fold0/averaged.safetensors"]


def test_a_network_that_draws_lots_resumes_to_the_bit(tmp_path: Path) -> None:
    """smp's EfficientNet-B0 drops connections at random in training: the generator's state matters."""
    config = tiny_config(model={"encoder": "efficientnet-b0"}, training={"epochs": 2, "checkpoint_minutes": 1e-9})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert jobs.run(jobs.train, whole, config, False, None) == [0]
    assert jobs.run(jobs.train, broken, config, False, "stop within an epoch") == [143]
    assert jobs.run(jobs.train, broken, config, True, None) == [0]
    assert_equal(broken, whole)


@pytest.mark.parametrize(
    ("method", "beside"),
    [("mean_teacher", {"score/student"}), ("co_training", {"score/view0", "score/view1", "score/view2"})],
)
def test_a_method_with_unlabelled_tiles_resumes_to_the_bit(tmp_path: Path, method: str, beside: set[str]) -> None:
    """The teacher, each view, the boxes' lots and all streams of tiles are where they were."""
    changed = tiny_config(
        method=method,  # type: ignore[arg-type]
        training={"epochs": 2, "epoch_steps": 4, "checkpoint_minutes": 1e-9, "patience": None},
        unlabelled={"batch": 4},
        co_training={"views": 3},
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert jobs.run(jobs.train, whole, changed, False, None) == [0]
    moments = ["kill within an epoch", "kill between snapshot and checkpoint"]
    for at, moment in enumerate(moments):
        assert jobs.run(jobs.train, broken, changed, at > 0, moment) == [-signal.SIGKILL]
    assert jobs.run(jobs.train, broken, changed, True, None) == [0]
    assert_equal(broken, whole)
    last = read_metrics(whole / "fold0" / "metrics.jsonl")[-1]
    assert last.keys() >= {"score", "health/foreground", "health/non_empty", *beside}
    health = json.loads((whole / "fold0" / "result.json").read_text())["health"]
    assert health.keys() >= {"foreground", "non_empty", "prior_foreground", "prior_non_empty", "consistency_share"}
    assert health["foreground"] == last["health/foreground"]
