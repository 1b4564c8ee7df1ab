"""What a finished run gives to others: probability maps, masks, a submission."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.data.channels import Channels
from semisalt.data.folds import sample_indices
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.ensemble import mean_of, predict_folds
from semisalt.inference.evaluate import operating_point
from semisalt.inference.submission import write
from semisalt.inference.threshold import apply
from semisalt.run import RunDirectory
from semisalt.training.build import build_network, predictor_of

Announce = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Tiles, their mean probabilities (uint8 [N, H, W]) and masks (0/1) at the run's operating point."""

    tiles: TileSet
    probabilities: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def predict(run: RunDirectory, tiles: TileSet, folder: Path, device: torch.device, announce: Announce) -> Prediction:
    """Predict tiles with all finished folds of a run; each fold's own probabilities are kept in `folder`.

    Raises:
        UserError: no fold is finished, the tiles have another size than the run's, or lack the depths it uses.
    """
    config = run.config
    channels = Channels(**run.channels)
    if tiles.shape != channels.shape:
        raise UserError(f"{run.path} was trained on tiles of {channels.shape}, these have {tiles.shape}")
    if channels.depth_range is not None and tiles.depths is None:
        raise UserError(
            f"{run.path} uses depths, and these tiles have none: give a folder with depths.csv by --data, "
            "or train with --set channels.depth=false"
        )
    operating = operating_point(run)
    network = build_network(config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    files = predict_folds(run, tiles, folder, network, predictor_of(config, channels, device), announce)
    probabilities = mean_of(files)
    return Prediction(tiles, probabilities, apply(probabilities, operating))


def unlabelled_of(run: RunDirectory, survey: Survey) -> TileSet:
    """The unlabelled tiles that a run works with: all of them, or its deterministic sample."""
    config = run.config
    return survey.unlabelled.subset(sample_indices(len(survey.unlabelled), config.data.unlabelled_limit, config.seed))


def submit(run: RunDirectory, survey: Survey, device: torch.device, announce: Announce) -> Path:
    """Write submission.csv for all unlabelled tiles; it is checked first. See submission.write for what it raises."""
    limited = run.config.data.unlabelled_limit is not None
    folder = run.path / "unlabelled_all" if limited else run.unlabelled
    prediction = predict(run, survey.unlabelled, folder, device, announce)
    path = run.path / "submission.csv"
    write(path, prediction.tiles.ids, prediction.masks, survey.submission_ids)
    return path
