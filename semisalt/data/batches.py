"""Delivery of batches of augmented tiles; which tiles make which batch is a plan's business (data/plans.py)."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from semisalt.config import AugmentConfig
from semisalt.data.augment import geometry_of, random_view, sample_seed
from semisalt.data.plans import Plan
from semisalt.data.tiles import TileSet

Key = tuple[int, int]  # turn (see Plan.turn; greater for a tile's later places in a batch), index of the tile


@dataclass(frozen=True)
class Batch:
    """Augmented tiles: labelled ones first, then unlabelled ones (as far as a plan has any).

    Attributes:
        images: uint8 [B, H, W]; of unlabelled tiles the weak view.
        targets: uint8 [L, H, W], of the first L tiles: the probability of salt, p = value / 255; a labelled pixel has
            0 or 255.
        depths: float32 [B], or None.
        indices: int64 [B], the tiles' places.
        strong: uint8 [B − L, H, W], the strong view of the unlabelled tiles, on the weak one's geometry; None where all
            tiles are labelled, or nobody asked for it.
    """

    images: torch.Tensor
    targets: torch.Tensor
    depths: torch.Tensor | None
    indices: torch.Tensor
    strong: torch.Tensor | None = None

    def salt(self, logits: torch.Tensor) -> torch.Tensor:
        """The targets as probabilities [L, H, W], of the logits' type."""
        return self.targets.to(logits.dtype) / 255

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; copies from pinned memory do not wait."""
        return self if self.images.device == device else self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Called by the loader's pinning thread."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        return Batch(
            change(self.images),
            change(self.targets),
            None if self.depths is None else change(self.depths),
            change(self.indices),
            None if self.strong is None else change(self.strong),
        )


class _Keys(Sampler[list[Key]]):
    """The plan's keys from a position on, epoch after epoch, so that workers never wait for an epoch to begin."""

    def __init__(self, plan: Plan, epochs: int, epoch: int, step: int) -> None:
        self.plan, self.epochs, self.epoch, self.step = plan, epochs, epoch, step

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.epoch, self.epochs):
            start = self.step if epoch == self.epoch else 0
            for step, tiles in enumerate(self.plan.local_batches(epoch, start), start):
                turn, seen = self.plan.turn(epoch, step), Counter[int]()
                keys = []
                for tile in tiles.tolist():
                    # A small pool's tiles come several times in a batch, and in several views' batches: no two alike.
                    keys.append((turn + (seen[tile] << 32), tile))
                    seen[tile] += 1
                yield keys


Sample = tuple[NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.uint8] | None, int]


class _Views(Dataset[Sample]):
    """Augmented tiles by (turn, index): image, target, strong view, index.

    Behind the first `labelled` tiles lie pseudo-labelled ones, whose views are `strong`, or unlabelled ones (`bare`),
    which have a weak view and, where one is asked for, a strong one on its geometry, and no target.
    """

    def __init__(
        self,
        tiles: TileSet,
        bare: TileSet | None,
        labelled: int,
        augment: AugmentConfig,
        strong: AugmentConfig | None,
        seed: int,
    ) -> None:
        self.images, self.targets, self.labelled, self.seed = tiles.images, tiles.targets, labelled, seed
        self.bare = None if bare is None else bare.images
        self.view, self.strong_view = random_view(augment), None if strong is None else random_view(strong)
        self.weak_view = random_view(geometry_of(augment))

    def __getitem__(self, key: Key) -> Sample:
        turn, index = key
        seed = sample_seed(self.seed, turn, index)
        if self.bare is not None and index >= self.labelled:
            image = self.bare[index - self.labelled]
            # No target, and views that need none: the mask that geometry moves along is the image itself.
            weak, _ = self.weak_view(image, image, seed)
            if self.strong_view is None:
                return weak, None, None, index
            strong, _ = self.strong_view(weak, weak, seed ^ 1)  # the same lots would tie it to the geometry
            return weak, None, strong, index
        view = self.view if index < self.labelled else self.strong_view or self.view
        image, target = view(self.images[index], self.targets[index], seed)
        return image, target, None, index


def batches(
    tiles: TileSet,
    plan: Plan,
    augment: AugmentConfig,
    strong: AugmentConfig | None = None,
    *,
    bare: TileSet | None = None,
    epochs: int,
    epoch: int = 0,
    step: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yield this process's batches from (epoch, step) to the end of training.

    The samples depend on (plan.seed, turn, index) alone, whatever the number of workers.

    Args:
        tiles: labelled tiles, the plan's own first; behind them pseudo-labelled ones.
        plan: which tiles make which batch.
        augment: the views of labelled tiles; of unlabelled ones the geometry alone.
        strong: the views of pseudo-labelled tiles, None: as the others'; the strong views of unlabelled ones, None:
            they have none.
        bare: the unlabelled tiles that a PairedPlan asks for.
        epochs: how many there are in all.
        epoch, step: where to begin.
        workers: processes that augment.
        pin: deliver in pinned memory.
    """
    known = [part.depths for part in (tiles, bare) if part is not None and part.depths is not None]
    complete = len(known) == (1 if bare is None else 2)
    depths = torch.from_numpy(np.concatenate(known)) if complete else None

    def collate(samples: list[Sample]) -> Batch:
        images, targets, strong_views, indices = zip(*samples, strict=True)
        index = torch.tensor(indices)
        return Batch(
            _stack(images),
            _stack([target for target in targets if target is not None]),
            depths[index] if depths is not None else None,
            index,
            None if bare is None or strong is None else _stack([view for view in strong_views if view is not None]),
        )

    loader: DataLoader[Batch] = DataLoader(
        _Views(tiles, bare, plan.tiles, augment, strong, plan.seed),  # type: ignore[arg-type]  # collate turns the samples into a Batch
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


def _stack(views: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(views))


def _quiet_worker(_: int) -> None:
    # A signal to the whole process group is for the loop to answer: it saves, then ends its workers.
    os.setpgrp()
    # A worker that spreads over all cores takes them from the training step.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
