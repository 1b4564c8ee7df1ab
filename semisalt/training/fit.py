"""The one loop: every method trains here.

An epoch is: steps in which the loop never waits for the device (a method may: one that picks tiles by what it sees
of them), a validation, a snapshot, a line in the log, a checkpoint. Losses are looked at every few steps only. A killed
training resumes at its last checkpoint and repeats the lost steps to the bit (on a CPU): tiles and views are a function
of (seed, epoch, index), and everything else that matters is in the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NoReturn, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import nn

from semisalt.config import Config, OptimiserConfig
from semisalt.data.batches import Batch, batches
from semisalt.data.plans import Plan
from semisalt.data.tiles import TileSet
from semisalt.errors import NotFiniteError
from semisalt.inference.predict import Predictor, quantise
from semisalt.methods import Method, Progress
from semisalt.metrics import precision
from semisalt.models.ema import Average
from semisalt.precision import autocast
from semisalt.run import FoldDirectory
from semisalt.training.checkpoint import load_checkpoint, save_checkpoint
from semisalt.training.health import health_beside, refuse_collapse
from semisalt.training.log import TrainingLog
from semisalt.training.meter import LossMeter, LossNotFiniteError
from semisalt.training.schedules import build_schedule
from semisalt.training.snapshots import Snapshots
from semisalt.training.stop import StopRequest, on_sigterm

# Steps between looks at the losses: each look waits for the device.
_LOOK_EVERY = 25


@dataclass
class Position:
    """Where a training stands; part of its checkpoint. Epochs and steps count from 0."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    seconds: float = 0.0
    done: bool = False


class Trainer:
    """Trains one method on one fold.

    Args:
        method: what a step computes.
        train: labelled tiles to learn from.
        validation: labelled tiles that are scored after each epoch.
        config: the settled configuration (no `auto` left).
        predictor: how validation tiles are predicted; its precision is the training's.
        folder: the fold's files.
        accelerator: the device or devices.
        plan: which tiles make which batch; without it every tile of `train` once an epoch.
        bare: unlabelled tiles, which lie behind those of `train` in the plan.
    """

    def __init__(
        self,
        method: Method,
        train: TileSet,
        validation: TileSet,
        config: Config,
        predictor: Predictor,
        folder: FoldDirectory,
        accelerator: Accelerator,
        plan: Plan | None = None,
        bare: TileSet | None = None,
    ) -> None:
        self.method, self.train, self.validation, self.bare = method, train, validation, bare
        self.config, self.predictor, self.folder, self.accelerator = config, predictor, folder, accelerator
        self.plan = plan or Plan(
            len(train), config.training.batch, config.seed, accelerator.process_index, accelerator.num_processes
        )
        self.schedule = build_schedule(config.schedule, epochs=config.training.epochs, steps_per_epoch=self.plan.steps)
        planned = config.training.epochs * self.plan.steps
        self.total_steps = min(planned, config.training.max_steps or planned)
        self.snapshots = Snapshots(folder.snapshots, keep=config.snapshots.keep, select=config.snapshots.select)
        self.position = Position()
        self.meter = LossMeter()
        self.plain = _prepare(method, accelerator, compiled=config.training.compile is True)
        self.parameters = [parameter for network in self.plain for parameter in network.parameters()]
        self.optimiser = _optimiser(config.optimiser, self.parameters)
        decay = config.training.ema_decay
        self.ema = Average(method.predictor(), decay) if decay else None

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights where one is kept."""
        module: nn.Module = self.ema.module if self.ema else self.method.predictor()
        return module

    def fit(self, log: TrainingLog, watch: Callable[[int, float], None] | None = None) -> None:
        """Train to the end, from where `load` left off.

        `watch` is told of each validated epoch (from 0) and its score, once that is safe in the checkpoint.

        Raises:
            NotFiniteError: a loss was not finite; the step, the tiles and the last good checkpoint are named.
            SystemExit: 143, after SIGTERM; the state is saved.
        """
        log.rewind(self.position.epoch)
        log.begin(self.total_steps, self.position.step)
        stream = self.stream(self.config.data.workers)
        with on_sigterm() as stop:
            while not self.position.done:
                record = self._epoch(stream, stop, log)
                if watch and "score" in record:
                    watch(int(record["epoch"]), record["score"])

    def stream(
        self, workers: int, plan: Plan | None = None, epoch: int | None = None, epochs: int | None = None
    ) -> Iterator[Batch]:
        """This process's batches from the present position on.

        Of another plan, from another epoch's beginning, or for another number of epochs, where these are given.
        """
        return batches(
            self.train,
            plan or self.plan,
            self.config.augment,
            self.config.strong_views,
            bare=self.bare,
            epochs=epochs or self.config.training.epochs,
            epoch=self.position.epoch if epoch is None else epoch,
            step=self.position.step_in_epoch if epoch is None else 0,
            workers=workers,
            pin=self.accelerator.device.type == "cuda",
        )

    def step(self, batch: Batch) -> None:
        """One step of the optimiser on one batch; nothing here but the method may wait for the device."""
        position = self.position
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule(position.step)
        progress = Progress(position.epoch, position.step, position.step / self.total_steps)
        with autocast(self.accelerator.device, self.predictor.precision):
            losses = self.method.step(batch.to(self.accelerator.device), progress)
        share = self.plan.share(len(batch.indices), position.step_in_epoch)
        self.accelerator.backward(losses.total * share)
        if self.config.optimiser.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.method.after_step(progress)
        if self.ema:
            self.ema.follow(self.method.predictor(), position.step)
        self.meter.add(position.step, losses, batch.indices, share)
        position.step += 1
        position.step_in_epoch += 1

    def validate(self, network: nn.Module) -> float:
        """Mean precision at 0.5 over the validation tiles; every process predicts its share and knows the result.

        Raises:
            NotFiniteError: the network predicts NaN, which is no score.
        """
        if self.accelerator.num_processes > 1:
            # Without SyncBatchNorm every process has statistics of its own tiles; those of rank 0 are the run's.
            for buffer in network.buffers():
                buffer.copy_(broadcast(buffer))
        try:
            probabilities = self.predict(network, self.validation)
        except FloatingPointError:
            raise self._not_finite(f"the predictions after epoch {self.position.epoch} are") from None
        assert self.validation.masks is not None  # noqa: S101  # validation tiles are labelled
        return float(precision(probabilities > 127, self.validation.masks).mean())

    def predict(self, network: nn.Module, tiles: TileSet) -> NDArray[np.uint8]:
        """Probabilities (uint8) of all tiles on every process, each process having predicted its share."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if world == 1:
            return quantise(self.predictor(network, tiles))
        parts = np.array_split(np.arange(len(tiles)), world)
        mine = quantise(self.predictor(network, tiles.subset(parts[rank])))
        padded = np.zeros((len(parts[0]), *tiles.shape), np.uint8)
        padded[: len(mine)] = mine
        gathered = self.accelerator.gather(torch.from_numpy(padded).to(self.accelerator.device)).cpu().numpy()
        return np.concatenate([gathered[i * len(padded) :][: len(part)] for i, part in enumerate(parts)])

    def save(self) -> None:
        """Write the checkpoint (rank 0 only), then remove the snapshots that it no longer lists.

        Raises:
            NotFiniteError: a weight is not finite; the checkpoint before it stays.
        """
        if not self.accelerator.is_main_process:
            return
        if not torch.stack([parameter.isfinite().all() for parameter in self.parameters]).all():
            raise self._not_finite(f"the weights after step {self.position.step - 1} are")
        state = {
            "position": asdict(self.position),
            "networks": [network.state_dict() for network in self.plain],
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "method": self.method.state_dict(),
            "losses": (self.meter.sums, self.meter.steps),
            "snapshots": self.snapshots.state(),
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state_all() if self.accelerator.device.type == "cuda" else [],
        }
        save_checkpoint(self.folder.checkpoint, state)
        self.snapshots.discard_others()

    def load(self) -> None:
        """Take up the last checkpoint. Raises UserError where there is none or it is damaged."""
        state = load_checkpoint(self.folder.checkpoint)
        self.position = Position(**state["position"])
        for network, weights in zip(self.plain, state["networks"], strict=True):
            network.load_state_dict(weights)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        self.method.load_state_dict(state["method"])
        sums, steps = state["losses"]
        device = self.accelerator.device
        self.meter = LossMeter({name: value.to(device) for name, value in sums.items()}, steps)
        self.snapshots.restore(state["snapshots"])
        torch.set_rng_state(state["rng"])
        if state["device_rng"]:
            torch.cuda.set_rng_state_all(state["device_rng"])

    def _epoch(self, stream: Iterator[Batch], stop: StopRequest, log: TrainingLog) -> dict[str, float | int]:
        """Train and close one epoch; returns its record."""
        position = self.position
        begin, saved, before = time.monotonic(), time.monotonic(), position.seconds
        for network in self.method.networks:
            network.train()
        while position.step_in_epoch < self.plan.steps and position.step < self.total_steps:
            self.step(next(stream))
            looking = position.step_in_epoch % _LOOK_EVERY == 0
            if looking:
                self._look()
                log.step(position.step)
            position.seconds = before + time.monotonic() - begin
            if self._agree(stop.asked, looking):
                self._look()
                self._leave(log)
            if looking and time.monotonic() - saved > 60 * self.config.training.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
        self._look()
        began = (position.step - position.step_in_epoch) / self.total_steps
        record = self._close_epoch()
        position.seconds = before + time.monotonic() - begin
        log.epoch({**record, "seconds": position.seconds}, position.best)
        # After the figures are written down, and before a checkpoint of it is.
        refuse_collapse(self.folder.path, record, self.config, began)
        if self._agree(stop.asked, True):
            self._leave(log)
        self.save()
        return record

    def _leave(self, log: TrainingLog) -> NoReturn:
        self.save()
        log.say(f"stopped by SIGTERM at step {self.position.step}; go on with --resume")
        raise SystemExit(143)

    def _close_epoch(self) -> dict[str, float | int]:
        """Validate, keep a snapshot, decide whether to go on; returns the epoch's record."""
        position, training = self.position, self.config.training
        record: dict[str, float | int] = {"epoch": position.epoch, "step": position.step}
        for name, value in self.meter.sums.items():
            mean = self.accelerator.reduce(value / self.meter.steps, reduction="mean")
            record[name] = float(mean)
        record.update(health_beside(record, self.train))
        record["lr"] = self.schedule(position.step - 1)
        position.done = position.epoch + 1 == training.epochs or position.step >= self.total_steps
        if position.done or (position.epoch + 1) % training.validate_every == 0:
            score = record["score"] = self.validate(self.judged)
            for name, network in self.method.beside().items():
                record[f"score/{name}"] = self.validate(network)
            new_best = score > position.best
            self.snapshots.consider(
                position.epoch, score, new_best, self.judged, write=self.accelerator.is_main_process
            )
            if new_best:
                position.best, position.best_epoch = score, position.epoch
            # The finishing losses get their chance, however long ago the first ones found their best.
            since = max(position.best_epoch, min(self.config.loss.switch_epoch, training.epochs) - 1)
            if training.patience is not None and position.epoch - since >= training.patience:
                position.done = True
        position.epoch += 1
        position.step_in_epoch = 0
        self.meter.clear()
        return record

    def _look(self) -> None:
        try:
            self.meter.look()
        except LossNotFiniteError as bad:
            known = self.train.ids + (self.bare.ids if self.bare else ())
            ids = ", ".join(known[index] for index in bad.indices)
            where = f"step {bad.step} (epoch {self.position.epoch}; tiles {ids})"
            raise self._not_finite(f"the loss of {where} is") from None

    def _not_finite(self, what: str) -> NotFiniteError:
        checkpoint = self.folder.checkpoint
        kept = f"last good checkpoint: {checkpoint}" if checkpoint.exists() else "no checkpoint was written yet"
        return NotFiniteError(f"{what} not finite; {kept}; a lower schedule.peak or optimiser.clip_norm may help")

    def _agree(self, asked: bool, looking: bool) -> bool:
        """Whether to stop. Several processes leave at the same step, or the others would wait for ever."""
        if self.accelerator.num_processes == 1:
            return asked
        if not looking:
            return False
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)


def _prepare(method: Method, accelerator: Accelerator, *, compiled: bool) -> list[nn.Module]:
    """Move a method's networks to the device and wrap them for it; returns their plain forms."""
    plain = []
    for index, network in enumerate(method.networks):
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        network.to(accelerator.device)
        network.to(memory_format=torch.channels_last)
        plain.append(network)
        wrapped: nn.Module = accelerator.prepare_model(network)
        method.networks[index] = cast(nn.Module, torch.compile(wrapped)) if compiled else wrapped
    for follower in method.followers:
        follower.to(accelerator.device).to(memory_format=torch.channels_last)
    return plain


def _optimiser(config: OptimiserConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    # The rate of every step is set by the loop.
    return kind(parameters, lr=0.0, weight_decay=config.weight_decay, fused=True)
