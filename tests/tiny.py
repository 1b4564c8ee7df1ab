"""A survey, a recipe and a network so small that a whole training takes a second."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey, TileSet, fingerprint
from semisalt.inference.build import build_network
from semisalt.inference.predict import Predictor
from semisalt.methods import Method
from semisalt.methods.supervised import Supervised
from semisalt.run import FoldDirectory, RunDirectory
from semisalt.training.fit import Trainer
from semisalt.training.log import TrainingLog


def tiny_tiles(count: int, seed: int = 0, shape: tuple[int, int] = (32, 32), name: str = "t") -> TileSet:
    """Noise with a bright layer below a random row, which is the salt; a fifth are empty, the third is blank."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (count, *shape), dtype=np.uint8)
    masks = np.zeros((count, *shape), np.uint8)
    for tile in range(count):
        masks[tile, generator.integers(4, shape[0]) :] = 1
    masks[1::5] = 0
    masks[2] = 0
    images += masks * np.uint8(110)
    images[2] = 0
    depths = generator.uniform(50, 900, count).astype(np.float32)
    return TileSet(tuple(f"{name}{tile:03d}" for tile in range(count)), images, masks, depths)


def tiny_survey(labelled: int = 60, unlabelled: int = 12) -> Survey:
    """60 labelled and 12 unlabelled tiles of 32×32, in memory."""
    known = tiny_tiles(labelled)
    other = tiny_tiles(unlabelled, seed=1, name="u")
    other = TileSet(other.ids, other.images, None, other.depths)
    return Survey(known, other, fingerprint(known, other), Path("nowhere"), None)


def tiny_config(**sections: dict[str, Any] | int) -> Config:
    """Two folds, three epochs of four steps; `training={"epochs": 5}` changes what it names."""
    base: dict[str, Any] = {
        "seed": 1,
        "data": {"folds": 2, "workers": 0},
        "channels": {"depth": True},
        "model": {
            "encoder": "tu-test_efficientnet",
            "weights": "none",
            "decoder_channels": (16, 16, 8, 8, 8),
            "scse_decoder": False,
            "hypercolumn": False,
        },
        "loss": {"switch_epoch": 1},
        "schedule": {"kind": "triangular2", "base": 1e-3, "peak": 3e-3, "step_size": 4},
        "training": {"epochs": 3, "batch": 8, "precision": "fp32"},
        "snapshots": {"keep": 2, "select": "last"},
        "inference": {"thresholds": (0.3, 0.4, 0.5, 0.6), "min_salts": (0, 10), "min_holes": (0,)},
    }
    for name, changes in sections.items():
        base[name] = {**base[name], **changes} if isinstance(changes, dict) and name in base else changes
    return Config.model_validate(base)


def tiny_channels() -> Channels:
    """Image, depth and ramp."""
    return Channels((32, 32), (0.0, 1000.0), "rows")


def tiny_network(config: Config | None = None, seed: int = 0) -> nn.Module:
    """A network of tiny_config with weights from a seed."""
    torch.manual_seed(seed)
    return build_network(config or tiny_config(), tiny_channels())


def tiny_trainer(
    folder: Path,
    config: Config,
    *,
    network: nn.Module | None = None,
    method: Method | None = None,
    train: TileSet | None = None,
) -> Trainer:
    """A trainer of 30 tiles, validated on 12 others."""
    channels, accelerator = tiny_channels(), Accelerator(cpu=True)
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(
        method or Supervised(network or tiny_network(config), channels, config.loss),
        train or tiny_tiles(30, seed=2),
        tiny_tiles(12, seed=3),
        config,
        Predictor(channels, accelerator.device, "fp32", 8, True),
        FoldDirectory(folder),
        accelerator,
    )


def tiny_log(folder: Path, *, resumed_step: int = 0) -> TrainingLog:
    """The log of tiny_trainer."""
    return TrainingLog(
        folder / "metrics.jsonl", folder / "tensorboard", "fold", enabled=True, resumed_step=resumed_step
    )


def fit(trainer: Trainer) -> Trainer:
    """Train to the end."""
    with tiny_log(trainer.folder.path, resumed_step=trainer.position.step) as log:
        trainer.fit(log)
    return trainer


def tiny_run(path: Path, config: Config, survey: Survey) -> RunDirectory:
    """A run directory as `semisalt baseline` begins it."""
    return RunDirectory.create(path, config, {"data": survey.fingerprint, "source": "nowhere", "seed": config.seed})
