"""Which tiles make which batch: pure functions of seed, epoch and step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semisalt.errors import UserError


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
        """What a tile's view depends on beside the tile and how often the batch has it: another one for each step that
        may hold the tile.
        """
        return epoch

    def local_batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """This process's tiles of the steps from `start` to the epoch's end."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.tiles)
        for tiles in np.array_split(order, self.steps)[start:]:
            yield np.array_split(tiles, self.world)[self.rank]


@dataclass(frozen=True)
class StreamPlan(Plan):
    """Batches of exactly `batch` tiles in epochs of any length.

    Tiles are drawn without replacement from one epoch on into the next: all are used up before any comes again.

    Attributes:
        epoch_steps: steps of an epoch; None: as many as one over the labelled tiles has, so that two trainings of
            equally many epochs are equally long, with and without other tiles.
    """

    epoch_steps: int | None = None

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.epoch_steps or super().steps

    def share(self, local: int, step: int) -> float:  # noqa: ARG002  # every step has as many tiles
        return local * self.world / self.batch

    def turn(self, epoch: int, step: int) -> int:
        """A small pool's tiles come again within an epoch, then in another view."""
        return epoch * self.steps + step

    def local_batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """This process's tiles of the steps from `start` to the epoch's end."""
        for step in range(epoch * self.steps + start, (epoch + 1) * self.steps):
            yield self._local(self._stream(0, self.tiles, step * self.batch, (step + 1) * self.batch))

    def _local(self, tiles: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array_split(tiles, self.world)[self.rank]

    def _stream(self, pool: int, size: int, begin: int, end: int) -> NDArray[np.int64]:
        """Places `begin` to `end` in an endless row of permutations of a pool."""
        rounds = range(int(begin) // size, -(-int(end) // size))
        orders = [np.random.default_rng((self.seed, pool, turn)).permutation(size) for turn in rounds]
        row = np.concatenate([np.empty(0, np.int64), *orders])
        skipped = int(begin) // size * size
        return row[int(begin) - skipped : int(end) - skipped]


@dataclass(frozen=True)
class MixedPlan(StreamPlan):
    """Batches of `tiles` real tiles and of `extra` pseudo-labelled ones, which lie behind them in the tile set.

    Every batch has `batch` tiles, of which `shares[epoch]` are pseudo-labelled; each kind is a stream of its own.
    """

    extra: int = 0
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra < 1:
            raise UserError("no pseudo-labelled tile to learn from")

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
            yield self._local(tiles)


@dataclass(frozen=True)
class PairedPlan(StreamPlan):
    """Batches of labelled tiles, then unlabelled ones, each kind a stream of its own.

    Attributes:
        batch: labelled tiles a step and view.
        extra: unlabelled tiles, which lie behind the labelled ones.
        extra_batch: unlabelled tiles a step.
        views: labelled batches a step, each in an order of its own (co-training: a network each).

    Raises:
        UserError: no unlabelled tile, or batches that the processes cannot share evenly.
    """

    extra: int = 0
    extra_batch: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra < 1:
            raise UserError("no unlabelled tile to learn from: they belong into test/images or unlabelled/")
        if self.batch % self.world or self.extra_batch % self.world:
            raise UserError(
                f"{self.world} processes cannot share {self.batch} labelled and {self.extra_batch} unlabelled tiles a "
                "step evenly: set training.batch and unlabelled.batch to multiples"
            )

    def share(self, local: int, step: int) -> float:  # noqa: ARG002  # all processes have as many tiles
        return 1.0

    def local_batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """This process's tiles of the steps from `start` to the epoch's end: labelled view by view, then unlabelled."""
        for step in range(epoch * self.steps + start, (epoch + 1) * self.steps):
            span = (step * self.batch, (step + 1) * self.batch)
            labelled = [self._local(self._stream(2 + view, self.tiles, *span)) for view in range(self.views)]
            bare = self._stream(1, self.extra, step * self.extra_batch, (step + 1) * self.extra_batch)
            yield np.concatenate([*labelled, self.tiles + self._local(bare)])
