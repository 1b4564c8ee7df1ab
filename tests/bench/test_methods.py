"""What each method's step costs, with planted times."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from semisalt.bench import timing
from semisalt.bench.methods import METHODS, contenders, measure_methods, summarise_methods
from semisalt.bench.workload import random_survey
from semisalt.data.batches import Batch
from semisalt.methods import Losses, Progress
from semisalt.methods.co_training import CoTraining
from semisalt.methods.mean_teacher import MeanTeacher
from semisalt.methods.supervised import Supervised
from tests.tiny import tiny_config

CPU = torch.device("cpu")


def test_ratios_of_planted_times() -> None:
    config = tiny_config(
        training={"batch": 20}, unlabelled={"batch": 30}, teacher={"mirrored": False, "consistency": "mse"}
    )
    times = {
        # The machine is three times slower in the second round: no ratio may notice.
        "supervised": np.array([1.0, 3.0, 1.1]),
        "mean_teacher": np.array([1.3, 3.9, 1.43]),
        "co_training": np.array([5.0, 15.0, 5.5]),
    }
    costs = summarise_methods(config, times)
    assert (costs.labelled, costs.unlabelled, costs.rounds) == (20, 30, 3)
    assert (costs.mirrored, costs.views) == (False, 2)
    assert costs.supervised.median == 1.1
    assert {name: step.median for name, step in costs.steps.items()} == {"mean_teacher": 1.43, "co_training": 5.5}
    for name, expected in {"mean_teacher": 1.3, "co_training": 5.0}.items():
        ratio = costs.ratios[name]
        assert [ratio.low, ratio.median, ratio.high] == pytest.approx([expected] * 3)


def test_the_recipe_is_kept_but_for_the_method_a_second_average_and_what_may_be_skipped() -> None:
    config = tiny_config(training={"batch": 20, "ema_decay": 0.9}, teacher={"mirrored": False, "consistency": "mse"})
    made = contenders(config, METHODS)
    assert {name: one.method for name, one in made.items()} == {name: name for name in made}
    assert {name: one.training.batch for name, one in made.items()} == {
        "supervised": 40,
        "mean_teacher": 20,
        "co_training": 20,
    }
    assert list(contenders(config, ["co_training"])) == ["supervised", "co_training"]
    for one in made.values():
        assert one.training.ema_decay is None
        # Networks that know nothing yet must neither be spared Lovász nor refuse tiles.
        assert one.loss.switch_epoch == one.teacher.agreement == 0
        assert one.teacher.empty_below == 1  # no probability is as high: every empty mask counts
        taking = {"agreement", "empty_below"}
        changed = {"method": True, "training": True, "loss": {"switch_epoch"}, "teacher": taking}
        assert one.model_dump(exclude=changed) == config.model_dump(exclude=changed)


def test_the_steps_are_those_of_the_methods_on_as_many_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the methods' own steps move the clock; what they are given is noted."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    seen: dict[str, list[tuple[int, int]]] = {}
    heard, followed = [], []

    def plant(kind: type, name: str, seconds: float) -> None:
        real = kind.step  # type: ignore[attr-defined]

        def step(self: object, batch: Batch, progress: Progress) -> Losses:
            clock.now += seconds
            seen.setdefault(name, []).append((len(batch.images), len(batch.targets)))
            losses: Losses = real(self, batch, progress)
            return losses

        monkeypatch.setattr(kind, "step", step)

    plant(Supervised, "supervised", 1.0)
    plant(MeanTeacher, "mean_teacher", 1.25)
    plant(CoTraining, "co_training", 5.0)
    words, follow = MeanTeacher.words, MeanTeacher.after_step
    monkeypatch.setattr(MeanTeacher, "words", lambda self, x, d: heard.append(len(x)) or words(self, x, d))
    monkeypatch.setattr(MeanTeacher, "after_step", lambda self, p: followed.append(p.step) or follow(self, p))
    # An epoch of one step: the loop's batches have no end here.
    config = tiny_config(training={"batch": 4, "epochs": 1, "epoch_steps": 1}, unlabelled={"batch": 6})
    costs = measure_methods(config, METHODS, random_survey(config), CPU, tmp_path, 0, lambda _: None)
    assert costs.rounds == 3
    assert costs.ratios["mean_teacher"].median == pytest.approx(1.25)
    assert costs.ratios["co_training"].median == pytest.approx(5.0)
    # Three calls beforehand and three rounds, in which each view of co-training has labelled tiles of its own.
    assert seen == {"supervised": [(10, 10)] * 6, "mean_teacher": [(10, 4)] * 6, "co_training": [(14, 8)] * 6}
    assert heard == [6] * 6
    assert followed == list(range(6))
    assert not list(tmp_path.iterdir())
