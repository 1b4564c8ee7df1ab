"""Cross-validation: which tiles each fold learns from, its training, and its out-of-fold predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.folds import grouped_folds, held_out, keep_labels, stratified_folds
from semisalt.data.tiles import Survey, TileSet, join
from semisalt.errors import UserError
from semisalt.files import write_array, write_json
from semisalt.inference.build import build_network, channels_of, predictor_of
from semisalt.inference.predict import vote
from semisalt.inference.weights import load_weights, save_weights, vote_weights
from semisalt.methods import Method
from semisalt.metrics import bootstrap, precision
from semisalt.run import FoldDirectory, RunDirectory, write_csv
from semisalt.training.fit import Trainer
from semisalt.training.health import health_of
from semisalt.training.lesson import Lesson
from semisalt.training.log import TrainingLog, read_metrics
from semisalt.training.snapshots import average_weights

MethodBuilder = Callable[[nn.Module, Channels, Config], Method]

# Batches that re-estimate the batch-norm statistics of averaged weights; more change nothing measurable.
_NORM_BATCHES = 100


@dataclass(frozen=True, eq=False)
class Division:
    """The labelled tiles without blank ones, the fold each is validation of, and which labels may be used.

    `holdout` are the tiles of `data.holdout`: no fold ever meets them, not even without their labels.
    """

    tiles: TileSet
    folds: NDArray[np.int64]
    kept: NDArray[np.bool_]
    holdout: TileSet

    def train(self, fold: int) -> TileSet:
        """Tiles that `fold` learns from: kept labels of the other folds."""
        return self.tiles.subset(self.kept & (self.folds != fold))

    def aside(self, fold: int) -> TileSet:
        """Of the tiles that `fold` never sees, those that lost their labels to the label fraction; without masks."""
        return replace(self.tiles.subset(~self.kept & (self.folds == fold)), masks=None)

    def unlabelled(self, fold: int) -> TileSet:
        """The tiles that the other folds have aside, fold by fold: they join the unlabelled ones of `fold`."""
        others = [np.flatnonzero(~self.kept & (self.folds == other)) for other in self.others(fold)]
        return replace(self.tiles.subset(np.concatenate(others)), masks=None)

    def others(self, fold: int) -> list[int]:
        """All folds but one, rising."""
        return [other for other in np.unique(self.folds).tolist() if other != fold]

    def candidates(self, fold: int, bare: TileSet) -> TileSet:
        """The survey's unlabelled tiles (`bare`), then those that lost their labels to the label fraction.

        Raises UserError where there is none.
        """
        parts = [part for part in (bare, self.unlabelled(fold)) if len(part)]
        if not parts:
            raise UserError("there are no unlabelled tiles to learn from: they belong into test/images or unlabelled/")
        return join(*parts) if len(parts) > 1 else parts[0]

    def without_labels(self, fold: int, bare: TileSet) -> TileSet:
        """The candidates, and the fold's own labelled tiles without their masks; blank tiles are left out.

        Raises UserError where there is no candidate.
        """
        pool = join(self.candidates(fold, bare), replace(self.train(fold), masks=None))
        return pool.subset(~pool.blank)

    def validation(self, fold: int) -> TileSet:
        """Tiles that `fold` never sees: the same ones at every label fraction."""
        return self.tiles.subset(self.folds == fold)


def divide(survey: Survey, config: Config) -> Division:
    """Deal the labelled tiles into folds, stratified by coverage and depth; blank tiles and the holdout are left out.

    Raises:
        UserError: fewer tiles than folds.
    """
    seen = ~survey.labelled.blank
    tiles, groups = survey.labelled.subset(seen), _groups(survey, config)
    out = held_out(tiles.coverage, tiles.depths, groups, config.data.holdout, config.seed)
    holdout, tiles = tiles.subset(out), tiles.subset(~out)
    if len(tiles) < config.data.folds:
        raise UserError(
            f"{survey.source}: {len(tiles)} labelled tiles that are not blank are too few for "
            f"{config.data.folds} folds; label more, or set data.folds"
        )
    if groups is None:
        folds = stratified_folds(tiles.coverage, tiles.depths, config.data.folds, config.seed)
    else:
        folds = grouped_folds(tiles.coverage, tiles.depths, groups[~out], config.data.folds, config.seed)
    kept = keep_labels(tiles.coverage, tiles.depths, folds, config.data.label_fraction, config.seed)
    return Division(tiles, folds, kept, holdout)


def _groups(survey: Survey, config: Config) -> NDArray[np.int64] | None:
    """The groups of the tiles that are not blank; None where each tile may go where it will."""
    if config.data.groups == "none":
        return None
    if survey.groups is None:
        raise ValueError("data.groups is 'mosaic', and nobody has found the mosaics: see mosaics.groups.prepare")
    return survey.groups[~survey.labelled.blank]


# Told of each validated epoch: the fold, the epoch (from 0) and the score. What it raises ends the training.
Watch = Callable[[int, int, float], None]
LessonOf = Callable[[int, Division], Lesson]


def train_folds(
    run: RunDirectory,
    survey: Survey,
    folds: Sequence[int],
    build_method: MethodBuilder,
    accelerator: Accelerator,
    lesson_of: LessonOf | None = None,
    watch: Watch | None = None,
) -> None:
    """Train the given folds that are not finished yet, each from its last checkpoint where it has one.

    Args:
        run: where; its configuration is settled.
        survey: the tiles.
        folds: which folds.
        build_method: how they learn.
        accelerator: the device or devices.
        lesson_of: what a fold learns from beside its own labels; asked just before the fold is trained.
        watch: told of each validated epoch.
    """
    config = run.config
    division = divide(survey, config)
    if accelerator.is_main_process:
        rows = zip(division.tiles.ids, division.folds.tolist(), division.kept.astype(int).tolist(), strict=True)
        write_csv(run.path / "folds.csv", ("id", "fold", "label_used"), list(rows))
    for fold in folds:
        if not run.fold(fold).result.exists():
            lesson = lesson_of(fold, division) if lesson_of else Lesson()
            _train_fold(run, fold, division, channels_of(config, survey), build_method, accelerator, lesson, watch)
        accelerator.wait_for_everyone()


def _train_fold(
    run: RunDirectory,
    fold: int,
    division: Division,
    channels: Channels,
    build_method: MethodBuilder,
    accelerator: Accelerator,
    lesson: Lesson,
    watch: Watch | None,
) -> None:
    config, folder = run.config, run.fold(fold)
    resumed = folder.checkpoint.exists()
    # A resumed network's weights come from its checkpoint, so that its pretrained ones need not be at hand.
    torch.manual_seed(config.seed * 1000 + fold)
    network = build_network(config, channels, weights="none" if resumed or lesson.weights else None)
    if lesson.weights and not resumed:
        load_weights(lesson.weights, network)
    real = division.train(fold)
    rank, world = accelerator.process_index, accelerator.num_processes
    trainer = Trainer(
        build_method(network, channels, config),
        join(real, lesson.tiles) if lesson.tiles else real,
        division.validation(fold),
        config,
        predictor_of(config, channels, accelerator.device),
        folder,
        accelerator,
        lesson.plan(len(real), config, rank, world),
        lesson.bare,
    )
    if accelerator.is_main_process:
        folder.path.mkdir(parents=True, exist_ok=True)
    if resumed:
        trainer.load()
    else:
        trainer.save()  # from here on the run can be resumed
    log = TrainingLog(
        folder.metrics,
        run.path / "tensorboard" / f"fold{fold}",
        f"fold {fold}",
        enabled=accelerator.is_main_process,
        resumed_step=trainer.position.step,
        inflated=run.inflated is not None,
    )
    with log:
        trainer.fit(log, partial(watch, fold) if watch else None)
        accelerator.wait_for_everyone()  # rank 0 has written the snapshots that all read now
        log.say("predicting its validation tiles")
        _finish_fold(trainer, folder, network, run.inflated)


def _finish_fold(trainer: Trainer, folder: FoldDirectory, network: nn.Module, inflated: str | None) -> None:
    """Predict the validation tiles by each way of combining snapshots, and write the fold's result last.

    A function of the snapshots alone, so that a fold killed here finishes the same.
    """
    config, validation = trainer.config, trainer.validation
    assert validation.masks is not None  # noqa: S101  # validation tiles are labelled
    last = _speak(trainer, network, trainer.snapshots.files()[-1])
    maps = {
        "last": last,
        "predictions": _vote(trainer, network, last),
        "weights": _averaged(trainer, folder, network, last),
    }
    if not trainer.accelerator.is_main_process:
        return
    scores = {way: precision(values > 127, validation.masks) for way, values in maps.items()}
    write_array(folder.probabilities, maps[config.snapshots.combine])
    rows = zip(validation.ids, validation.coverage.tolist(), *(s.tolist() for s in scores.values()), strict=True)
    write_csv(folder.tile_scores, ("id", "coverage", *scores), list(rows))
    position = trainer.position
    health = health_of(read_metrics(folder.metrics)[-1])
    result = {
        **({"inflated": inflated} if inflated else {}),
        "tiles": len(validation),
        "training_tiles": len(trainer.train),
        "epochs": position.epoch,
        "steps": position.step,
        "seconds": round(position.seconds, 1),
        "best_epoch": position.best_epoch,
        **({"health": health} if health else {}),
        "snapshots": trainer.snapshots.state(),
        "precision_at_half": {way: vars(bootstrap(values)) for way, values in scores.items()},
    }
    write_json(folder.result, result)


def _speak(trainer: Trainer, network: nn.Module, file: Path) -> NDArray[np.uint8]:
    """A snapshot's word on the validation tiles."""
    load_weights(file, network)
    return trainer.predict(network, trainer.validation)


def _vote(trainer: Trainer, network: nn.Module, last: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The snapshots' votes on the validation tiles, the newest, whose word is `last`, heaviest."""
    files = trainer.snapshots.files()
    words = chain((_speak(trainer, network, file) for file in files[:-1]), [last])
    return vote(words, vote_weights(len(files), trainer.config.snapshots.decay))


def _averaged(
    trainer: Trainer, folder: FoldDirectory, network: nn.Module, last: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Predictions of the averaged weights, which are written for later use; of one snapshot they are `last`."""
    files = trainer.snapshots.files()
    network.load_state_dict(average_weights(files, trainer.config.snapshots.decay))
    if len(files) > 1:
        _estimate_norms(trainer, network)
    if trainer.accelerator.is_main_process:
        save_weights(folder.averaged, network)
    if len(files) == 1:
        return last
    return trainer.predict(network, trainer.validation)


def _estimate_norms(trainer: Trainer, network: nn.Module) -> None:
    """Estimate batch-norm statistics on augmented training tiles; every process on the same ones."""
    plan = replace(trainer.plan, rank=0, world=1)
    # Tiles as the training ended with: pseudo-labelled ones may have come first.
    last = trainer.config.training.epochs - 1
    # The stream is the training's own, but for the process that it is for.
    stream = trainer.stream(0, plan, epoch=last)
    device, channels = trainer.predictor.device, trainer.predictor.channels
    moved = (batch.to(device) for batch in islice(stream, _NORM_BATCHES))
    update_bn((channels(batch.images, batch.depths) for batch in moved), network)
