"""A finished run without training: networks with random weights, whose predictions differ from pixel to pixel."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey, TileSet
from semisalt.files import write_array, write_json
from semisalt.inference.build import build_network, channels_of
from semisalt.inference.outputs import bare_tiles
from semisalt.inference.predict import Predictor
from semisalt.inference.weights import save_weights
from semisalt.models import SaltUNet
from semisalt.pseudo.labelling import Task, label_directory, label_fold
from semisalt.pseudo.labels import LabelDirectory
from semisalt.run import RunDirectory, write_csv
from semisalt.training.crossval import divide
from tests.tiny import tiny_config

CPU = torch.device("cpu")
# Nearly everything may be taken: the networks know nothing.
LENIENT = {"decided": 0.0, "min_area": 0, "max_coverage": 1.0, "quotas": False}


def config_of(**sections: Any) -> Config:
    """Half of the labels, everything is taken."""
    return tiny_config(
        **{
            "data": {"label_fraction": 0.5},
            "training": {"patience": None, "epochs": 2},
            **sections,
            "pseudo": {**LENIENT, **sections.get("pseudo", {})},
        }
    )


@cache
def _network(model: str, channels: Channels, seed: int) -> SaltUNet:
    torch.manual_seed(seed)
    network = build_network(Config.model_validate({"model": json.loads(model)}), channels)
    with torch.no_grad():
        network.head.weight.mul_(20)  # type: ignore[union-attr, operator]
    return network.eval()


def network_of(config: Config, survey: Survey, seed: int) -> SaltUNet:
    """One network for each seed."""
    return _network(config.model.model_dump_json(), channels_of(config, survey), seed)


def made_run(
    path: Path, config: Config, survey: Survey, folds: tuple[int, ...] = (0, 1), snapshots: int = 2
) -> RunDirectory:
    """A run whose folds are finished, see `finish_folds`."""
    provenance = {"data": survey.fingerprint, "source": "nowhere", "seed": config.seed}
    run = RunDirectory.create(path, config, {**provenance, "channels": asdict(channels_of(config, survey))})
    finish_folds(run, survey, folds, snapshots)
    return run


def finish_folds(
    run: RunDirectory, survey: Survey, folds: Sequence[int], snapshots: int = 2, seed: int = 0, wrong: int = 0
) -> None:
    """Leave what a training leaves, its first `wrong` validation tiles of each fold inverted, the others right.

    The weights' seeds are `seed` + 100 · fold + the snapshot's number, and + 50 for the averaged weights.
    """
    config = run.config
    division = divide(survey, config)
    rows = zip(division.tiles.ids, division.folds.tolist(), division.kept.astype(int).tolist(), strict=True)
    write_csv(run.path / "folds.csv", ("id", "fold", "label_used"), list(rows))
    for fold in folds:
        files = [f"epoch{number:04}.safetensors" for number in range(snapshots)]
        for number, file in enumerate(files):
            save_weights(run.fold(fold).snapshots / file, network_of(config, survey, seed + 100 * fold + number))
        save_weights(run.fold(fold).averaged, network_of(config, survey, seed + 100 * fold + 50))
        validation = division.validation(fold)
        assert validation.masks is not None
        right = validation.masks * np.uint8(255)
        right[:wrong] = 255 - right[:wrong]
        write_array(run.fold(fold).probabilities, right)
        kept = [{"epoch": at, "score": 0.5, "file": file} for at, file in enumerate(files)]
        ways = {way: {"value": 0.5, "low": 0.4, "high": 0.6} for way in ("last", "predictions", "weights")}
        result = {"tiles": len(validation), "epochs": 2, "snapshots": kept, "seconds": 1.0, "precision_at_half": ways}
        write_json(run.fold(fold).result, result)


def maps_of(run: RunDirectory, survey: Survey, seed: int, tiles: TileSet) -> NDArray[np.float64]:
    """What a network says of tiles, in 255ths; nothing on blank ones."""
    channels = channels_of(run.config, survey)
    maps = Predictor(channels, CPU, "fp32", 8, True)(network_of(run.config, survey, seed), tiles) * 255.0
    maps[tiles.images.max((1, 2)) == 0] = 0
    return np.asarray(maps, np.float64)


def task_of(run: RunDirectory, survey: Survey, fold: int = 0, **changes: Any) -> Task:
    config = run.config
    values = {
        "voters": (fold,),
        "bare": bare_tiles(survey, config),
        "division": divide(survey, config),
        "maps": run.unlabelled,
    }
    return Task(run, fold, **{**values, **changes})


def labelled(task: Task, config: Config, target: Path) -> LabelDirectory:
    """Label a fold as a round at `target` would."""
    folder = label_directory(RunDirectory(target), task.fold)
    label_fold(task, config.pseudo, folder, CPU, lambda _: None)
    return folder
