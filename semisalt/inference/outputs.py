"""What a finished run gives to others: probability maps, masks, a submission."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.folds import sample_indices
from semisalt.data.read import load_survey
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.build import build_network, predictor_of
from semisalt.inference.ensemble import mean_of, predict_folds
from semisalt.inference.evaluate import operating_point
from semisalt.inference.submission import write
from semisalt.inference.threshold import Operating, apply
from semisalt.run import RunDirectory

Announce = Callable[[str], None]
Correction = Callable[["Prediction"], "Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Tiles, their mean probabilities (uint8 [N, H, W]), and masks (0/1) at an operating point."""

    tiles: TileSet
    probabilities: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    operating: Operating


def predict(
    run: RunDirectory,
    tiles: TileSet,
    folder: Path,
    device: torch.device,
    announce: Announce,
    by: Config | None = None,
) -> Prediction:
    """Predict tiles with all finished folds of a run; each fold's own probabilities are kept in `folder`.

    Snapshots, mirroring and the operating point are the run's own, or those of `by`, which names one point.

    Raises:
        UserError: no tiles, no finished fold, tiles of another size than the run's, or without the depths it uses.
    """
    if not len(tiles):
        raise UserError("there are no unlabelled tiles to predict")
    config = by or run.config
    channels = Channels(**run.channels)
    if tiles.shape != channels.shape:
        raise UserError(f"{run.path} was trained on tiles of {channels.shape}, these have {tiles.shape}")
    if channels.depth_range is not None and tiles.depths is None:
        raise UserError(
            f"{run.path} uses depths, and these tiles have none: give a folder with depths.csv by --data, "
            "or train with --set channels.depth=false"
        )
    operating = operating_point(run) if by is None else only_point(by)
    network = build_network(config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    files = predict_folds(run, tiles, folder, network, predictor_of(config, channels, device), announce, by)
    probabilities = mean_of(files)
    return Prediction(tiles, probabilities, apply(probabilities, operating), operating)


def only_point(config: Config) -> Operating:
    """The operating point of a recipe that names one. Raises ValueError where it names several."""
    axes = config.inference.thresholds, config.inference.min_salts, config.inference.min_holes
    (threshold,), (min_salt,), (min_hole,) = axes
    return Operating(threshold, min_salt, min_hole)


def own_survey(run: RunDirectory, moved: Path | None) -> Survey:
    """The tiles that a run was made from, read from where they were, or from where they moved to.

    Raises:
        UserError: they are gone, or are not the same tiles any more.
    """
    path = moved or run.source()
    survey = load_survey(path)
    if survey.fingerprint != run.provenance["data"]:
        raise UserError(
            f"{path} is not what {run.path} was made from: its fingerprint is {survey.fingerprint}, "
            f"the run's {run.provenance['data']}; predict other tiles with: semisalt predict RUN --data PATH --out DIR"
        )
    return survey


def unlabelled_of(run: RunDirectory, survey: Survey) -> TileSet:
    """The unlabelled tiles that a run works with: all of them, or its deterministic sample."""
    return bare_tiles(survey, run.config)


def bare_tiles(survey: Survey, config: Config) -> TileSet:
    """The unlabelled tiles that a configuration works with."""
    return survey.unlabelled.subset(sample_indices(len(survey.unlabelled), config.data.unlabelled_limit, config.seed))


def submit(
    run: RunDirectory,
    survey: Survey,
    device: torch.device,
    announce: Announce,
    correct: Correction | None = None,
    by: Config | None = None,
    out: Path | None = None,
) -> Path:
    """Write submission.csv for all unlabelled tiles; it is checked first. See submission.write for what it raises.

    Args:
        run: of which all finished folds predict.
        survey: the run's own.
        device: where the networks run.
        announce: told of each fold.
        correct: where given, has the last word on the masks.
        by: as for `predict`.
        out: the folder of the file and of the folds' probabilities; None: the run's.
    """
    folder = run.maps_of(None, run.config.seed)
    folder = out / folder.name if out else folder
    prediction = predict(run, survey.unlabelled, folder, device, announce, by)
    if correct:
        prediction = correct(prediction)
    path = (out or run.path) / "submission.csv"
    write(path, prediction.tiles.ids, prediction.masks, survey.submission_ids)
    return path
