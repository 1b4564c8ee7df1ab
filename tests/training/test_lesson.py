from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semisalt.config import Config
from semisalt.data.batches import Batch
from semisalt.data.plans import MixedPlan
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.weights import save_weights
from semisalt.methods.build import build_method
from semisalt.methods.supervised import Supervised
from semisalt.run import RunDirectory
from semisalt.training.checkpoint import load_checkpoint
from semisalt.training.crossval import divide, train_folds
from semisalt.training.fit import Trainer
from semisalt.training.lesson import Lesson
from tests.tiny import tiny_config, tiny_network, tiny_run, tiny_tiles

CONFIG = tiny_config(training={"epochs": 2})


def pseudo_tiles(count: int = 10, soft: bool = False) -> TileSet:
    made = tiny_tiles(count, seed=8, name="p")
    values = np.random.default_rng(0).integers(0, 256, made.images.shape, dtype=np.uint8) if soft else None
    return TileSet(made.ids, made.images, made.masks, made.depths, values)


def train(path: Path, survey: Survey, lesson: Lesson, config: Config = CONFIG) -> None:
    run = tiny_run(path, config, survey)
    train_folds(run, survey, [0], build_method, Accelerator(cpu=True), lambda *_: lesson)


def test_the_plan_puts_pseudo_labelled_tiles_behind_the_real_ones() -> None:
    plan = Lesson(pseudo_tiles(), (0.0, 1.0)).plan(30, CONFIG, 1, 2)
    assert plan == MixedPlan(30, 8, CONFIG.seed, 1, 2, extra=10, shares=(0.0, 1.0))
    with pytest.raises(UserError, match="no pseudo-labelled tile"):
        Lesson(pseudo_tiles(0 + 3).subset(np.array([], np.int64)), (0.5,)).plan(30, CONFIG, 0, 1)


def test_no_real_tile_before_finetuning_and_no_pseudo_tile_after(
    tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids that the method is really given, epoch by epoch, and the rate of each step."""
    seen: list[tuple[int, float, list[str]]] = []
    step = Trainer.step

    def noted(self: Trainer, batch: Batch) -> None:
        epoch = self.position.epoch
        step(self, batch)
        rate = self.optimiser.param_groups[0]["lr"]
        seen.append((epoch, rate, [self.train.ids[at] for at in batch.indices.tolist()]))

    monkeypatch.setattr(Trainer, "step", noted)
    schedule = {"kind": "cosine", "peak": 1e-2, "cycles": (1, 1), "warmup_epochs": 0, "restart": 0.5}
    base = CONFIG.model_dump()
    config = Config.model_validate({**base, "schedule": schedule, "training": {**base["training"], "patience": None}})
    train(tmp_path / "run", survey, Lesson(pseudo_tiles(), (1.0, 0.0)), config)
    division = divide(survey, config)
    real = set(division.train(0).ids)
    first = [tile for epoch, _, ids in seen for tile in ids if epoch == 0]
    then = [tile for epoch, _, ids in seen for tile in ids if epoch == 1]
    assert set(first) == {f"p{at:03d}" for at in range(10)}
    assert set(then) <= real
    assert len(first) == len(then) == 32
    rates = [rate for _, rate, _ in seen]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[4] == pytest.approx(5e-3)


def test_validation_tiles_are_never_learned_from(
    tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    step = Supervised.step
    trainers: list[Trainer] = []
    build = Trainer.__init__

    def kept(self: Trainer, *arguments: Any) -> None:
        build(self, *arguments)
        trainers.append(self)

    def noted(self: Supervised, batch: Batch, progress: Any) -> Any:
        seen.update(trainers[-1].train.ids[at] for at in batch.indices.tolist())
        return step(self, batch, progress)

    monkeypatch.setattr(Trainer, "__init__", kept)
    monkeypatch.setattr(Supervised, "step", noted)
    train(tmp_path / "run", survey, Lesson(pseudo_tiles(), (0.5, 0.5)))
    division = divide(survey, CONFIG)
    assert not seen & set(division.validation(0).ids)
    assert seen <= set(division.train(0).ids) | set(pseudo_tiles().ids)
    assert seen & set(pseudo_tiles().ids)


def test_soft_labels_reach_the_loss_as_probabilities(
    tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def noted(logits: torch.Tensor, targets: torch.Tensor, weights: Any) -> Any:
        seen.append(targets.clone())
        return mix(logits, targets, weights)

    from semisalt.methods import supervised as module

    mix = module.mix
    monkeypatch.setattr(module, "mix", noted)
    base = CONFIG.model_dump()
    plain = {"flip": 0, "affine": 0, "light": 0, "blur": 0}
    config = Config.model_validate({**base, "augment": plain})
    lesson = Lesson(pseudo_tiles(soft=True), (1.0, 0.0))
    train(tmp_path / "run", survey, lesson, config)
    assert lesson.tiles.soft is not None
    known = {tile.astype(np.float32).tobytes() for tile in lesson.tiles.soft}
    for target in seen[:4]:
        assert {np.rint(tile.numpy() * 255).astype(np.float32).tobytes() for tile in target} <= known
    real = torch.cat(seen[4:8])
    assert set(real.unique().tolist()) == {0.0, 1.0}


def test_a_round_starts_from_the_weights_it_is_given(
    tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "before.safetensors"
    save_weights(file, tiny_network(CONFIG, seed=77))
    expected = load_file(file)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", stop)
        for name, weights in (("given", file), ("scratch", None)):
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / name, survey, Lesson(pseudo_tiles(), (0.5, 0.5), weights))
    given, scratch = (
        load_checkpoint(tmp_path / name / "fold0" / "last.ckpt")["networks"][0] for name in ("given", "scratch")
    )
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in expected)
    assert any(not torch.equal(scratch[name], expected[name]) for name in expected)
    # A resumed training has its own weights, and needs the given ones no more.
    file.unlink()
    run = RunDirectory(tmp_path / "given")
    lesson = Lesson(pseudo_tiles(), (0.5, 0.5), file)
    train_folds(run, survey, [0], build_method, Accelerator(cpu=True), lambda *_: lesson)
    assert run.finished_folds() == [0]


def test_the_curve_of_an_inflated_run_bears_the_mark(tmp_path: Path, survey: Survey) -> None:
    """A pooled round's score on its validation tiles is inflated from the first epoch on."""
    run = RunDirectory.create(tmp_path, CONFIG, {"data": survey.fingerprint, "inflated": "labels are pooled"})
    lesson = Lesson(pseudo_tiles(), (0.5, 0.5))
    train_folds(run, survey, [0], build_method, Accelerator(cpu=True), lambda *_: lesson)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "fold0"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert "inflated/score" in tags
    assert "score" not in tags
