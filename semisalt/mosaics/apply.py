"""Predictions of unlabelled tiles, made and corrected with the help of their mosaics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey, TileSet
from semisalt.inference.build import build_network
from semisalt.inference.evaluate import operating_point
from semisalt.inference.outputs import Prediction
from semisalt.inference.predict import vote
from semisalt.mosaics.build import cached
from semisalt.mosaics.grid import Mosaics, Pairs
from semisalt.mosaics.joined import predict_joined
from semisalt.mosaics.rules import Proposal, correct
from semisalt.mosaics.view import all_tiles, known_labels, view_of
from semisalt.run import RunDirectory, write_csv


@dataclass(frozen=True, eq=False)
class Corrected:
    """Probabilities and masks [n, H, W] with the mosaics' help, and the proposals of the rules that were followed."""

    probabilities: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    followed: tuple[Proposal, ...]


def correction(
    run: RunDirectory, survey: Survey, device: torch.device, announce: Callable[[str], None]
) -> Callable[[Prediction], Prediction]:
    """What `--mosaic` does to predictions of the survey's own unlabelled tiles: see `correct_predictions`."""

    def correct(prediction: Prediction) -> Prediction:
        announce("finding the tiles' neighbours")
        mosaics, pairs = cached(survey)
        tiles, alone = prediction.tiles, prediction.probabilities
        folder = run.path / "joined"
        better = correct_predictions(run, survey, mosaics, pairs, tiles, alone, folder, device, announce)
        table = folder / "corrections.csv"
        rows = [(mosaics.ids[p.tile], p.rule, f"{p.confidence:.3f}", p.reason) for p in better.followed]
        write_csv(table, ("id", "rule", "confidence", "reason"), rows)
        announce(f"{len(rows)} masks set by the mosaics' rules: {table}")
        return replace(prediction, probabilities=better.probabilities, masks=better.masks)

    return correct


def correct_predictions(
    run: RunDirectory,
    survey: Survey,
    mosaics: Mosaics,
    pairs: Pairs,
    tiles: TileSet,
    probabilities: NDArray[np.uint8],
    folder: Path,
    device: torch.device,
    announce: Callable[[str], None],
) -> Corrected:
    """Predict the tiles that have a neighbour on the joined mosaic, then correct all masks by the rules.

    Args:
        run: all its finished folds predict; the labels that it may use, and no others, are known to the rules.
        survey: what the mosaics were built from.
        mosaics: where its tiles lie.
        pairs: the tiles that lie side by side in them.
        tiles: n unlabelled tiles of the survey.
        probabilities: [n, H, W], the mean over the folds of each tile alone.
        folder: keeps each fold's windows; see `joined.predict_joined`.
        device: where the networks run.
        announce: told what is done, a line at a time.

    Raises:
        UserError: the mosaics are of other tiles.
    """
    everything = all_tiles(survey, mosaics)
    position = {tile: at for at, tile in enumerate(mosaics.ids)}
    at = np.array([position[tile] for tile in tiles.ids], np.int64)
    network = build_network(run.config, Channels(**run.channels), weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    parts = []
    for fold in run.finished_folds():
        file = folder / f"fold{fold}.npy"
        announce(f"fold {fold}: tiles with neighbours on the joined mosaic → {file}")
        parts.append(predict_joined(run, fold, everything, mosaics, at, file, network, device))
    joined = probabilities.copy()
    if len(parts[0].tiles):
        row_of = {int(tile): row for row, tile in enumerate(at)}
        rows = [row_of[tile] for tile in parts[0].tiles.tolist()]
        joined[rows] = vote((part.windowed for part in parts), [1 / len(parts)] * len(parts))
    assert survey.labelled.masks is not None  # noqa: S101
    known = known_labels(run, mosaics.ids, None)
    view = view_of(mosaics, pairs, survey.labelled.masks, known, at, joined, operating_point(run))
    corrected, followed = correct(view)
    masks = np.empty_like(corrected)
    masks[np.argsort(at)] = corrected  # from the survey's order to the tiles' own
    return Corrected(joined, masks, tuple(followed))
