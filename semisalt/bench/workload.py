"""What is timed: the real loop, the bare step it is measured against, and the loop's parts by themselves."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from semisalt.bench.timing import Action
from semisalt.config import Config
from semisalt.data.batches import Batch
from semisalt.data.tiles import Survey, TileSet
from semisalt.inference.build import build_network, channels_of, predictor_of
from semisalt.losses import LOSSES
from semisalt.methods.build import build_method
from semisalt.precision import Precision, autocast
from semisalt.run import FoldDirectory
from semisalt.training.fit import Trainer
from semisalt.training.lesson import Lesson

# The tile of the competition; enough of them that an epoch is not over in a few steps.
_SIDE, _TILES = 101, 1000
# More than any benchmark reaches.
_EPOCHS = 1_000_000
# A loader is ahead by two batches a worker; a turn takes so many times as many that they do not count.
_TURN_BATCHES = 16
# A prediction should not take longer than a step or, of a quick network, than this many seconds.
_PREDICTION = 0.5


def random_survey(config: Config) -> Survey:
    """Tiles of noise with half of each salt, as many as a short epoch needs, with depths; the same ones unlabelled."""
    rng = np.random.default_rng(config.seed)
    count = max(_TILES, 2 * config.training.batch)
    images = rng.integers(1, 256, (count, _SIDE, _SIDE), dtype=np.uint8)
    masks = np.zeros_like(images)
    masks[:, _SIDE // 2 :] = 1
    ids = tuple(str(index) for index in range(count))
    tiles = TileSet(ids, images, masks, rng.uniform(50, 960, count).astype(np.float32))
    bare = TileSet(tuple(f"u{name}" for name in ids), images, None, tiles.depths)
    return Survey(tiles, bare, "", Path("random tiles"), None)


def make_trainer(config: Config, survey: Survey, device: torch.device, folder: Path) -> Trainer:
    """The loop that a training by the configured method runs, with random weights; `folder` stays empty."""
    accelerator = Accelerator(mixed_precision="no", cpu=device.type == "cpu")
    channels = channels_of(config, survey)
    torch.manual_seed(config.seed)
    network = build_network(config, channels, weights="none")
    lesson = Lesson(bare=None if config.method == "supervised" else survey.unlabelled)
    trainer = Trainer(
        build_method(network, channels, config),
        survey.labelled,
        survey.labelled.subset(np.arange(2)),
        config,
        predictor_of(config, channels, accelerator.device),
        FoldDirectory(folder),
        accelerator,
        lesson.plan(len(survey.labelled), config),
        lesson.bare,
    )
    network.train()
    return trainer


def loop_step(trainer: Trainer) -> Action:
    """Trainer.step on the loader's next batch, and the look at the losses that follows every few steps."""
    workers = trainer.config.data.workers
    stream = _stream(trainer, workers)

    def run() -> None:
        trainer.step(next(stream))
        trainer.meter.look()

    return Action(run, least=_TURN_BATCHES * max(1, workers))


def loader(trainer: Trainer, workers: int) -> Action:
    """The next batches of a loop that does nothing with them: one call is a turn of them, see `loader_batches`."""
    stream = _stream(trainer, workers)

    def run() -> None:
        for _ in range(loader_batches(workers)):
            next(stream)

    return Action(run)


def loader_batches(workers: int) -> int:
    """Batches in one call of `loader`."""
    return _TURN_BATCHES * max(1, workers)


def bare_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    inputs: torch.Tensor,
    precision: Precision,
    layout: Literal["NHWC", "NCHW"],
    *,
    compiled: bool = False,
) -> Action:
    """Forward, backward and optimiser step of a copy of `network` on one prepared input, and nothing else."""
    # Copied together: the copied optimiser then moves the copied network's weights.
    network, optimiser = copy.deepcopy((network, optimiser))
    memory = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    network.to(memory_format=memory)
    inputs = inputs.contiguous(memory_format=memory)
    targets = (inputs[:, 0] > 0).float()
    forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(network) if compiled else network

    def run() -> None:
        with autocast(inputs.device, precision):
            loss = F.binary_cross_entropy_with_logits(forward(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return Action(run)


def loop_bare_step(trainer: Trainer) -> tuple[Action, tuple[int, int, int, int]]:
    """The bare step as the loop runs the network, and its input's shape."""
    batch = trainer.config.training.batch
    part = trainer.train.subset(np.arange(batch))
    device = trainer.predictor.device
    depths = torch.from_numpy(part.depths).to(device) if part.depths is not None else None
    inputs = trainer.predictor.channels(torch.from_numpy(part.images).to(device), depths)
    network, optimiser = trainer.method.predictor(), trainer.optimiser
    compiled = trainer.config.training.compile is True
    bare = bare_step(network, optimiser, inputs, trainer.predictor.precision, "NHWC", compiled=compiled)
    return bare, (batch, inputs.shape[1], *trainer.predictor.channels.padded)


def prediction(trainer: Trainer, bare: Action) -> tuple[Action, int]:
    """The loop's prediction of tiles, and how many it predicts: one batch, fewer where that would take too long."""
    begin = time.perf_counter()
    bare.run()
    seconds = time.perf_counter() - begin
    # A forward pass is about a third of a step.
    views = 2 if trainer.config.inference.flip else 1
    a_tile = seconds / trainer.config.training.batch / 3 * views
    count = max(2, min(trainer.config.inference.batch, len(trainer.train), int(max(_PREDICTION, seconds) / a_tile)))
    tiles = trainer.train.subset(np.arange(count))
    return Action(lambda: trainer.predictor(trainer.judged, tiles)), count


def lovasz(trainer: Trainer) -> tuple[Action, str]:
    """Forward and backward pass of the configured Lovász loss alone, and its name."""
    config, device = trainer.config, trainer.predictor.device
    named = [name for name in (*config.loss.finish, *config.loss.start) if "lovasz" in name]
    name = named[0] if named else "lovasz_hinge"
    assert trainer.train.masks is not None  # noqa: S101  # random_survey gives masks
    targets = torch.from_numpy(trainer.train.masks[: config.training.batch]).float().to(device)
    logits = torch.randn(targets.shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()

    def run() -> None:
        torch.autograd.grad(LOSSES[name](logits, targets), logits)

    return Action(run), name


def _stream(trainer: Trainer, workers: int) -> Iterator[Batch]:
    """The loop's batches without end."""
    return trainer.stream(workers, epochs=_EPOCHS)
