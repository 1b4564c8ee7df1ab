import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from semisalt.config import Config
from semisalt.data.batches import Batch
from semisalt.errors import UserError
from semisalt.methods import Losses, Progress
from semisalt.methods.supervised import Supervised
from semisalt.training.fit import Trainer
from semisalt.training.log import read_metrics
from tests.tiny import fit, tiny_channels, tiny_config, tiny_log, tiny_network, tiny_tiles, tiny_trainer

FAST = {"max_steps": None, "epochs": 2}


class Watched(Supervised):
    """Notes each step's progress and weights; from `fails_at` on its loss is `failure`."""

    def __init__(self, config: Config, fails_at: int | None = None, failure: float = math.nan) -> None:
        super().__init__(tiny_network(config), tiny_channels(), config.loss)
        self.fails_at, self.failure = fails_at, failure
        self.progress: list[Progress] = []
        self.batches: list[list[int]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def step(self, batch: Batch, progress: Progress) -> Losses:
        self.progress.append(progress)
        self.batches.append(batch.indices.tolist())
        losses = super().step(batch, progress)
        if self.fails_at is not None and progress.step >= self.fails_at:
            return Losses(losses.total + self.failure, losses.parts)
        return losses

    def after_step(self, progress: Progress) -> None:
        assert progress is self.progress[-1]
        self.weights.append({name: value.clone() for name, value in self.predictor().state_dict().items()})


def watch(tmp_path: Path, config: Config, **failing: float) -> tuple[Watched, Trainer]:
    method = Watched(config, **failing)  # type: ignore[arg-type]
    return method, tiny_trainer(tmp_path, config, method=method)


def scored(trainer: Trainer, scores: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """The trainer with these validation scores in their order instead of its own."""
    stream = iter(scores)
    monkeypatch.setattr(trainer, "validate", lambda _: next(stream))
    return trainer


class Taught(Supervised):
    """Trains one network; another one, which stays as it is, counts. What it sees in unlabelled tiles is planted."""

    def __init__(self, config: Config, foreground: float) -> None:
        super().__init__(tiny_network(config), tiny_channels(), config.loss)
        self.teacher, self.foreground = tiny_network(config, seed=9), foreground
        self.followers = [self.teacher]

    def step(self, batch: Batch, progress: Progress) -> Losses:
        losses = super().step(batch, progress)
        parts = {**losses.parts, "supervised": losses.total.detach()}
        return Losses(losses.total, parts, {"foreground": torch.tensor(self.foreground)})

    def predictor(self) -> nn.Module:
        return self.teacher

    def beside(self) -> dict[str, nn.Module]:
        return {"student": self.networks[0]}


def test_what_the_method_predicts_with_is_scored_and_kept_not_what_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known bug: a best checkpoint picked by the student, while the teacher is used."""
    config = tiny_config(training={"epochs": 2}, snapshots={"keep": 1, "select": "best"})
    method = Taught(config, foreground=0.5)
    trainer = tiny_trainer(tmp_path, config, method=method)
    scores = {id(method.teacher): 0.25, id(trainer.plain[0]): 0.75}
    monkeypatch.setattr(trainer, "validate", lambda network: scores[id(network)])
    fit(trainer)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(record["score"], record["score/student"]) for record in records] == [(0.25, 0.75)] * 2
    assert trainer.position.best == 0.25
    kept, expected = load_file(trainer.snapshots.files()[-1]), method.teacher.state_dict()
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], expected[name]) for name in kept)


@pytest.mark.parametrize("foreground", [0.0, 0.5])
def test_a_collapse_ends_the_training_once_it_has_warmed_up(tmp_path: Path, foreground: float) -> None:
    config = tiny_config(method="mean_teacher", training={"epochs": 4}, teacher={"ramp": 0.5})
    trainer = tiny_trainer(tmp_path, config, method=Taught(config, foreground))
    if foreground:
        fit(trainer)
    else:
        with pytest.raises(UserError, match=r"collapsed to background after epoch 3: foreground 0\.000"):
            fit(trainer)
    assert trainer.position.step == (16 if foreground else 12)
    # The figures of the epoch that ended it are written down as well.
    kept = [record["health/foreground"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert kept == [foreground] * (4 if foreground else 3)


def test_epochs_steps_and_progress(tmp_path: Path) -> None:
    method, trainer = watch(tmp_path, tiny_config(training={"epochs": 2}))
    assert trainer.plan.steps == 4
    fit(trainer)
    assert [(p.epoch, p.step, p.share) for p in method.progress] == [(step // 4, step, step / 8) for step in range(8)]
    for epoch in range(2):
        tiles = [tile for part in method.batches[4 * epoch : 4 * epoch + 4] for tile in part]
        assert sorted(tiles) == list(range(30))
    assert method.batches[:4] != method.batches[4:]
    assert trainer.position.done
    assert (trainer.position.epoch, trainer.position.step) == (2, 8)


def test_weights_move_by_adam_at_the_schedules_rate(tmp_path: Path) -> None:
    """Adam's first step is lr · sign(gradient), where the gradient is not nearly zero."""
    config = tiny_config(training={"max_steps": 2}, schedule={"base": 2e-3, "peak": 6e-3, "step_size": 4})
    method, trainer = watch(tmp_path, config)
    before = [parameter.detach().clone() for parameter in trainer.parameters]
    fit(trainer)
    names = [name for name, _ in method.predictor().named_parameters()]
    moved = torch.cat([(method.weights[0][n] - b).flatten() for n, b in zip(names, before, strict=True)]).abs()
    assert moved.max().item() == pytest.approx(2e-3, rel=1e-3)
    assert moved.quantile(0.5).item() == pytest.approx(2e-3, rel=1e-3)
    again = torch.cat([(method.weights[1][n] - method.weights[0][n]).flatten() for n in names]).abs()
    assert again.max().item() <= 3e-3 * 1.5  # the second step's rate is 3e-3
    assert again.max().item() > 2.5e-3


def test_gradient_is_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer(tmp_path, tiny_config(optimiser={"clip_norm": 0.01}))
    norms = []
    step = trainer.optimiser.step

    def noted() -> None:
        norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in trainer.parameters if p.grad is not None)))
        step()

    monkeypatch.setattr(trainer.optimiser, "step", noted)
    trainer.step(next(trainer.stream(0)))
    assert norms == [pytest.approx(0.01, rel=1e-3)]


def test_max_steps_ends_within_an_epoch_and_validates(tmp_path: Path) -> None:
    method, trainer = watch(tmp_path, tiny_config(training={"max_steps": 6, "validate_every": 2}))
    fit(trainer)
    assert len(method.progress) == 6
    assert [p.share for p in method.progress] == pytest.approx([step / 6 for step in range(6)])
    records = read_metrics(trainer.folder.metrics)
    assert [record["step"] for record in records] == [4, 6]
    assert ["score" in record for record in records] == [False, True]
    assert len(trainer.snapshots.kept) == 1


def test_validate_every_and_always_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(training={"epochs": 5, "validate_every": 2, "batch": 30})
    trainer = scored(tiny_trainer(tmp_path, config), [0.1, 0.2, 0.15], monkeypatch)
    fit(trainer)
    records = read_metrics(trainer.folder.metrics)
    assert [record["epoch"] for record in records if "score" in record] == [1, 3, 4]
    assert (trainer.position.best, trainer.position.best_epoch) == (0.2, 3)


@pytest.mark.parametrize(
    ("scores", "patience", "every", "epochs"),
    [
        ([0.1, 0.3, 0.3, 0.2, 0.25, 0.9], 3, 1, 5),  # best in epoch 1; an equal score is no new best
        ([0.5, 0.4, 0.9], 1, 1, 2),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 1, 1, 8),
        ([0.0, 0.0, 0.9], 2, 3, 6),  # the first validation, in epoch 2, is a best whatever its score
        ([0.3, 0.2], None, 4, 8),
    ],
)
def test_patience(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    patience: int | None,
    every: int,
    epochs: int,
) -> None:
    config = tiny_config(training={"epochs": 8, "patience": patience, "batch": 30, "validate_every": every})
    trainer = scored(tiny_trainer(tmp_path, config), scores, monkeypatch)
    fit(trainer)
    assert trainer.position.epoch == epochs
    records = read_metrics(trainer.folder.metrics)
    assert "score" in records[-1]  # a fold never ends on weights that were not looked at
    assert trainer.snapshots.kept


def test_ema_is_the_plain_loops(tmp_path: Path) -> None:
    """a ← d·a + (1 − d)·w with d = min(1 − 1/(t + 1), decay), for weights and float buffers; integers are copied."""
    method, trainer = watch(tmp_path, tiny_config(training={"epochs": 2, "ema_decay": 0.7}))
    fit(trainer)
    average = {name: value.double() for name, value in method.weights[0].items()}
    for t, weights in enumerate(method.weights):
        d = min(1 - 1 / (t + 1), 0.7)
        for name, value in weights.items():
            average[name] = d * average[name] + (1 - d) * value.double() if value.is_floating_point() else value
    assert trainer.ema is not None
    found = trainer.ema.module.state_dict()
    assert any(name.endswith("running_var") for name in found)
    assert found.keys() == average.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), average[name].double(), rtol=1e-5, atol=1e-6)
    # The average is what is kept and validated, not the last weights.
    assert trainer.judged is trainer.ema.module
    kept = load_file(trainer.snapshots.files()[-1])
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    assert any(not torch.equal(kept[name], value) for name, value in method.weights[-1].items())


def test_validation_score_by_independent_arithmetic(tmp_path: Path) -> None:
    """The mean over tiles of the share of levels .50 … .95 that a tile's IoU exceeds, from single forward passes."""
    config = tiny_config(training={"epochs": 2})
    trainer = fit(tiny_trainer(tmp_path, config))
    network = tiny_network(config)
    network.load_state_dict(load_file(trainer.snapshots.files()[-1]))
    network.eval()
    channels, tiles = tiny_channels(), tiny_tiles(12, seed=3)
    assert tiles.masks is not None
    assert tiles.depths is not None
    scores = []
    for tile in range(12):
        image = torch.from_numpy(tiles.images[tile : tile + 1])
        with torch.no_grad():
            x = channels(image, torch.from_numpy(tiles.depths[tile : tile + 1]))
            p = (network(x).sigmoid() + network(x.flip(3)).sigmoid().flip(2)) / 2
        salt, truth = p[0].numpy() > 0.5, tiles.masks[tile] > 0
        union = (salt | truth).sum()
        iou = (salt & truth).sum() / union if union else 1.0
        scores.append(np.mean([iou > level for level in np.arange(0.5, 1.0, 0.05)]))
    assert read_metrics(trainer.folder.metrics)[-1]["score"] == pytest.approx(np.mean(scores), abs=1e-9)


def test_logged_losses_are_the_means_of_the_epochs_steps(tmp_path: Path) -> None:
    method, trainer = watch(tmp_path, tiny_config(training={"epochs": 1}))
    totals = []
    step = method.step

    def noted(batch: Batch, progress: Progress) -> Losses:
        losses = step(batch, progress)
        totals.append(losses.total.item())
        return losses

    method.step = noted  # type: ignore[method-assign]
    fit(trainer)
    (record,) = read_metrics(trainer.folder.metrics)
    assert record["loss/total"] == pytest.approx(np.mean(totals), rel=1e-6)
    assert record["loss/bce"] == record["loss/total"]
    assert record["lr"] == pytest.approx(1e-3 + 2e-3 * 3 / 4)  # of the last step made


@pytest.mark.parametrize("failure", [math.nan, math.inf])
def test_bad_loss_names_step_tiles_and_checkpoint(tmp_path: Path, failure: float) -> None:
    method, trainer = watch(tmp_path, tiny_config(), fails_at=6, failure=failure)
    with pytest.raises(UserError) as caught:
        fit(trainer)
    text = str(caught.value)
    assert "step 6 (epoch 1" in text
    ids = [f"t{tile:03d}" for tile in method.batches[6]]
    assert ", ".join(ids) in text
    assert f"last good checkpoint: {tmp_path / 'last.ckpt'}" in text
    assert trainer.position.best_epoch == 0
    assert [snapshot.epoch for snapshot in trainer.snapshots.kept] == [0]

    again = tiny_trainer(tmp_path, tiny_config())
    again.load()
    assert again.position.step == 4  # the checkpoint is from before the bad step
    assert all(torch.isfinite(parameter).all() for parameter in again.parameters)


def test_bad_loss_before_any_checkpoint_says_so(tmp_path: Path) -> None:
    _, trainer = watch(tmp_path, tiny_config(), fails_at=1)
    with pytest.raises(UserError, match=r"step 1 .*no checkpoint was written yet"):
        fit(trainer)
    assert not trainer.folder.checkpoint.exists()
    assert not trainer.folder.snapshots.exists()


def poison(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.parameters[0][0, 0, 0, 0] = math.nan  # one of many


def test_bad_prediction_is_never_a_best(tmp_path: Path) -> None:
    """Weights can turn NaN after the last loss was seen: the gradient of a finite loss may be NaN."""
    config = tiny_config()
    trainer = fit(tiny_trainer(tmp_path, config))
    poison(trainer)
    with pytest.raises(
        UserError, match=r"predictions after epoch 3 are not finite; last good checkpoint: .*last\.ckpt"
    ):
        trainer.validate(trainer.judged)


def test_bad_weights_are_not_saved(tmp_path: Path) -> None:
    trainer = fit(tiny_trainer(tmp_path, tiny_config()))
    before = trainer.folder.checkpoint.read_bytes()
    poison(trainer)
    with pytest.raises(UserError, match="weights after step 11 are not finite; last good checkpoint"):
        trainer.save()
    assert trainer.folder.checkpoint.read_bytes() == before


def test_last_checkpoint_holds_everything(tmp_path: Path) -> None:
    config = tiny_config(training={"ema_decay": 0.5}, snapshots={"keep": 2})
    trainer = fit(tiny_trainer(tmp_path, config))
    other = tiny_trainer(tmp_path, config, network=tiny_network(config, seed=9))
    torch.manual_seed(123)
    other.load()
    assert other.position == trainer.position
    assert other.snapshots.kept == trainer.snapshots.kept
    for mine, theirs in zip(other.parameters, trainer.parameters, strict=True):
        assert torch.equal(mine, theirs)
        for name in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(other.optimiser.state[mine][name], trainer.optimiser.state[theirs][name])
    assert other.ema is not None
    assert trainer.ema is not None
    for mine_value, value in zip(
        other.ema.module.state_dict().values(), trainer.ema.module.state_dict().values(), strict=True
    ):
        assert torch.equal(mine_value, value)
    assert torch.equal(torch.get_rng_state(), trainer_rng(trainer))


def trainer_rng(trainer: Trainer) -> torch.Tensor:
    from semisalt.training.checkpoint import load_checkpoint

    state: torch.Tensor = load_checkpoint(trainer.folder.checkpoint)["rng"]
    return state


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    trainer = fit(tiny_trainer(tmp_path, tiny_config(training={"max_steps": 1})))
    content = bytearray(trainer.folder.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    trainer.folder.checkpoint.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        trainer.load()


def test_snapshots_that_fell_out_are_gone_from_disk(tmp_path: Path) -> None:
    trainer = fit(tiny_trainer(tmp_path, tiny_config(training={"epochs": 4, "batch": 30})))
    names = sorted(file.name for file in trainer.folder.snapshots.iterdir())
    assert names == ["epoch0002.safetensors", "epoch0003.safetensors"]


def test_compiled_step_is_the_networks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled form is stepped, the plain one saved; the compiler itself is replaced here."""
    compiled = []

    def compile_(network: nn.Module) -> nn.Module:
        compiled.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    trainer = fit(tiny_trainer(tmp_path, tiny_config(training={"compile": True, "max_steps": 1})))
    assert compiled == [trainer.method.networks[0]]
    assert trainer.plain[0] is trainer.method.predictor()


def test_bf16_trains_with_weights_in_fp32(tmp_path: Path) -> None:
    from dataclasses import replace

    trainer = tiny_trainer(tmp_path, tiny_config(training={"max_steps": 2}))
    trainer.predictor = replace(trainer.predictor, precision="bf16")
    dtypes = set()
    conv = next(module for module in trainer.plain[0].modules() if isinstance(module, nn.Conv2d))
    conv.register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
    fit(trainer)
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in trainer.parameters} == {torch.float32}


def test_log_rewinds_to_the_checkpoint(tmp_path: Path) -> None:
    trainer = fit(tiny_trainer(tmp_path, tiny_config()))
    with trainer.folder.metrics.open("a") as handle:
        handle.write('{"epoch": 3, "step": 16}\n{"epoch": 4, "st')  # a killed process's, later than its checkpoint
    again = tiny_trainer(tmp_path, tiny_config())
    again.load()
    with tiny_log(tmp_path, resumed_step=12) as log:
        again.fit(log)
    assert [record["epoch"] for record in read_metrics(trainer.folder.metrics)] == [0, 1, 2]
