"""Batches of augmented tiles: which tiles when (a pure function of seed, epoch and step), and their delivery."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from semisalt.config import AugmentConfig
from semisalt.data.augment import random_view, sample_seed
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError

Key = tuple[int, int]  # turn (see Plan.turn), index of the tile


@dataclass(frozen=True)
class Batch:
    """Augmented tiles: images and targets uint8 [B, H, W], depths float32 [B] or None, tile indices int64 [B].

    A target is the probability of salt, p = value / 255; a labelled pixel has 0 or 255.
    """

    images: torch.Tensor
    targets: torch.Tensor
    depths: torch.Tensor | None
    indices: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; copies from pinned memory do not wait."""
        if self.images.device == device:
            return self
        images, targets, indices = (
            tensor.to(device, non_blocking=True) for tensor in (self.images, self.targets, self.indices)
        )
        depths = self.depths.to(device, non_blocking=True) if self.depths is not None else None
        return Batch(images, targets, depths, indices)

    def pin_memory(self) -> "Batch":
        """Called by the loader's pinning thread."""
        depths = self.depths.pin_memory() if self.depths is not None else None
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), depths, self.indices.pin_memory())


@dataclass(frozen=True)
class Plan:
    """Which tiles make which batch: every tile once an epoch, in an order drawn anew for each.

    An epoch's tiles are dealt over its steps in parts that differ by one tile at most, so that no last batch is too
    small for batch normalisation and no tile is dropped; each step's tiles are dealt over the processes likewise.

    Raises:
        UserError: a process would get fewer than two tiles a step.
    """

    tiles: int
    batch: int
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if min(self.tiles, self.batch) < self._least:
            raise UserError(
                f"{self.tiles} training tiles in batches of {self.batch} are too few: "
                f"{self.world} process(es) need {self._least} a step"
            )

    @property
    def _least(self) -> int:
        # One tile alone would have no batch statistics.
        return 2 * self.world

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return min(math.ceil(self.tiles / self.batch), self.tiles // self._least)

    def share(self, local: int, step: int) -> float:
        """Weight of a process's mean loss over `local` tiles, so that the mean over processes is that over tiles."""
        if self.world == 1:
            return 1.0
        # np.array_split gives the first parts one tile more.
        total = self.tiles // self.steps + (step < self.tiles % self.steps)
        return local * self.world / total

    def turn(self, epoch: int, step: int) -> int:  # noqa: ARG002
        """What a tile's view depends on beside the tile: a number that no tile meets twice."""
        return epoch

    def local_batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """This process's tiles of the steps from `start` to the epoch's end."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.tiles)
        for tiles in np.array_split(order, self.steps)[start:]:
            yield np.array_split(tiles, self.world)[self.rank]


@dataclass(frozen=True)
class MixedPlan(Plan):
    """Batches of `tiles` real tiles and of `extra` pseudo-labelled ones, which lie behind them in the tile set.

    Every batch has `batch` tiles, of which `shares[epoch]` are pseudo-labelled. Real and pseudo-labelled tiles are
    drawn without replacement, pool by pool, from one epoch on into the next: a pool is used up before any of its
    tiles comes again. An epoch has as many steps as one over the real tiles alone, so that two trainings of equally
    many epochs are equally long, with and without pseudo-labels.
    """

    extra: int = 0
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra < 1:
            raise UserError("no pseudo-labelled tile to learn from")

    def share(self, local: int, step: int) -> float:  # noqa: ARG002  # every step has as many tiles
        return local * self.world / self.batch

    def turn(self, epoch: int, step: int) -> int:
        """A small pool's tiles come again within an epoch, then in another view."""
        return epoch * self.steps + step

    def local_batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """This process's tiles of the steps from `start` to the epoch's end."""
        steps = np.arange(self.steps + 1)
        # Rounded down once over the whole training, or short epochs would lose their fractions.
        shares = sum(self.shares[:epoch]) * self.steps + steps * self.shares[epoch]
        extra_before = (shares * self.batch + 1e-6).astype(np.int64)
        before = (epoch * self.steps + steps) * self.batch
        for step in range(start, self.steps):
            real = self._stream(0, self.tiles, *(before - extra_before)[step : step + 2])
            extra = self._stream(1, self.extra, *extra_before[step : step + 2])
            # Mixed, or the first process would get the real tiles.
            tiles = np.random.default_rng((self.seed, epoch, step)).permutation(
                np.concatenate([real, self.tiles + extra])
            )
            yield np.array_split(tiles, self.world)[self.rank]

    def _stream(self, pool: int, size: int, begin: int, end: int) -> NDArray[np.int64]:
        """Places `begin` to `end` in an endless row of permutations of a pool."""
        rounds = range(int(begin) // size, -(-int(end) // size))
        orders = [np.random.default_rng((self.seed, pool, turn)).permutation(size) for turn in rounds]
        row = np.concatenate([np.empty(0, np.int64), *orders])
        skipped = int(begin) // size * size
        return row[int(begin) - skipped : int(end) - skipped]


class _Keys(Sampler[list[Key]]):
    """The plan's keys from a position on, epoch after epoch, so that workers never wait for an epoch to begin."""

    def __init__(self, plan: Plan, epochs: int, epoch: int, step: int) -> None:
        self.plan, self.epochs, self.epoch, self.step = plan, epochs, epoch, step

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.epoch, self.epochs):
            start = self.step if epoch == self.epoch else 0
            for step, tiles in enumerate(self.plan.local_batches(epoch, start), start):
                turn = self.plan.turn(epoch, step)
                yield [(turn, int(tile)) for tile in tiles]


class _Views(Dataset[tuple[NDArray[np.uint8], NDArray[np.uint8], int]]):
    """Augmented tiles by (turn, index); those from `first_strong` on have views of their own."""

    def __init__(
        self, tiles: TileSet, augment: AugmentConfig, seed: int, strong: AugmentConfig, first_strong: int
    ) -> None:
        self.images, self.targets, self.seed = tiles.images, tiles.targets, seed
        self.view, self.strong_view, self.first_strong = random_view(augment), random_view(strong), first_strong

    def __getitem__(self, key: Key) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        turn, index = key
        view = self.view if index < self.first_strong else self.strong_view
        image, target = view(self.images[index], self.targets[index], sample_seed(self.seed, turn, index))
        return image, target, index


def batches(
    tiles: TileSet,
    plan: Plan,
    augment: AugmentConfig,
    strong: AugmentConfig | None = None,
    *,
    epochs: int,
    epoch: int = 0,
    step: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yield this process's batches from (epoch, step) to the end of training.

    The samples depend on (plan.seed, epoch, index) alone, whatever the number of workers. `strong` are the views of
    tiles behind the plan's own, the pseudo-labelled ones; None: as the others.
    """
    depths = torch.from_numpy(tiles.depths) if tiles.depths is not None else None

    def collate(samples: list[tuple[NDArray[np.uint8], NDArray[np.uint8], int]]) -> Batch:
        images, targets, indices = zip(*samples, strict=True)
        index = torch.tensor(indices)
        return Batch(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(targets)),
            depths[index] if depths is not None else None,
            index,
        )

    loader: DataLoader[Batch] = DataLoader(
        _Views(tiles, augment, plan.seed, strong or augment, plan.tiles),  # type: ignore[arg-type]  # collate turns the samples into a Batch
        batch_sampler=_Keys(plan, epochs, epoch, step),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=_quiet_worker,
        # Its own: a loader draws its workers' seed, and a resumed training must find torch's generator undisturbed.
        generator=torch.Generator().manual_seed(plan.seed),
        # The tiles stay where they are: a fork shares them, any other start would copy them.
        multiprocessing_context="fork" if workers else None,
    )
    return iter(loader)


def _quiet_worker(_: int) -> None:
    # A signal to the whole process group is for the loop to answer: it saves, then ends its workers.
    os.setpgrp()
    # A worker that spreads over all cores takes them from the training step.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
