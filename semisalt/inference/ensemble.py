"""Predictions of a finished run: each fold's own probabilities, kept apart on disk, and their mean."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from semisalt.config import Config
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.predict import Predictor, quantise, vote
from semisalt.inference.weights import load_weights, vote_weights, weights_file
from semisalt.metrics import iou
from semisalt.run import RunDirectory

# Tiles between two saves: a killed prediction loses so many at most.
_CHUNK = 1024

Announce = Callable[[str], None]


def predict_folds(
    run: RunDirectory,
    tiles: TileSet,
    folder: Path,
    network: nn.Module,
    predictor: Predictor,
    announce: Announce,
    by: Config | None = None,
) -> list[Path]:
    """Each finished fold's probabilities on `tiles`, as folder/foldK.npy (uint8 [N, H, W]); returns the files.

    `by` hears the snapshots otherwise than the run itself does (see `voters_of`). What is already there for these tiles
    and voters is kept; a killed prediction goes on where it was. Blank tiles
    get 0: they carry no signal and hold no salt.

    Raises:
        UserError: no fold of the run is finished.
    """
    folds = run.finished_folds()
    if not folds:
        raise UserError(f"{run.path}: no fold is finished; go on with --resume")
    files = [folder / f"fold{fold}.npy" for fold in folds]
    for fold, file in zip(folds, files, strict=True):
        announce(f"fold {fold}: {len(tiles)} tiles → {file}")
        predict_fold(run, fold, tiles, file, network, predictor, by)
    return files


def predict_fold(
    run: RunDirectory,
    fold: int,
    tiles: TileSet,
    file: Path,
    network: nn.Module,
    predictor: Predictor,
    by: Config | None = None,
) -> None:
    """A finished fold's own probabilities on `tiles`, kept in `file` as by `predict_folds`.

    Beside it lie, float32 [N] each, what a selection of tiles may ask for (see `measures`) and costs no pass of its
    own: NAME.agreement.npy, each tile's agreement with its mirror image (mean over the voters), and
    NAME.stability.npy, the mean IoU at 0.5 of the earlier voters' masks against the last one's (NaN for one voter).
    """
    voters = voters_of(run, fold, by)
    key = _key(tiles, voters, predictor.flip)
    partial, note = file.with_suffix(".partial.npy"), file.with_suffix(".json")
    state = _read_note(note) if note.exists() else {}
    same = state.get("key") == key
    if same and all(path.exists() for path in (file, *measures(file).values())):
        return
    if not same:
        # Of other tiles or voters: both gone before the new note claims what lies here.
        file.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    done = int(state.get("done", 0)) if same and partial.exists() else 0
    if not done:
        np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(len(tiles), *tiles.shape))
        for path in measures(file).values():
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(tiles),))
    out = [np.load(path, mmap_mode="r+") for path in (partial, *measures(file).values())]
    for start in range(done, len(tiles), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(tiles)))
        voted = _vote(tiles.subset(np.arange(part.start, part.stop)), voters, network, predictor)
        for values, chunk in zip(out, voted, strict=True):
            values[part] = chunk
            values.flush()
        write_json(note, {"key": key, "done": part.stop})
    del out
    partial.replace(file)


def measures(file: Path) -> dict[str, Path]:
    """The files of 'agreement' and 'stability' that belong to a fold's file of probabilities."""
    return {name: file.with_suffix(f".{name}.npy") for name in ("agreement", "stability")}


def mean_of(files: Sequence[Path]) -> NDArray[np.uint8]:
    """Mean of the folds' probabilities, uint8 [N, H, W], read in chunks."""
    parts = [np.load(file, mmap_mode="r") for file in files]
    out = np.empty(parts[0].shape, np.uint8)
    for start in range(0, len(out), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        out[chunk] = vote((part[chunk] for part in parts), [1 / len(parts)] * len(parts))
    return out


def _vote(
    tiles: TileSet, voters: Sequence[tuple[Path, float]], network: nn.Module, predictor: Predictor
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities, agreement and stability of a chunk of tiles; a blank tile is empty beyond doubt."""
    seen = np.flatnonzero(~tiles.blank)
    out = np.zeros((len(tiles), *tiles.shape), np.uint8)
    agreement, stability = np.ones(len(tiles), np.float32), np.ones(len(tiles), np.float32)
    if not len(seen):
        return out, agreement, stability
    visible = tiles.subset(seen)
    maps, agreements = [], []
    for path, _ in voters:
        load_weights(path, network)
        probabilities, agrees = predictor.judge(network, visible)
        maps.append(quantise(probabilities))
        agreements.append(agrees)
    out[seen] = vote(maps, [weight for _, weight in voters])
    agreement[seen] = np.mean(agreements, axis=0)
    stability[seen] = mean_iou(maps[:-1], maps[-1]) if len(maps) > 1 else np.nan
    return out, agreement, stability


def mean_iou(maps: Sequence[NDArray[np.uint8]], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean over `maps` of each tile's IoU with `reference` at 0.5, [N]; all are uint8 [N, H, W], p = value / 255."""
    shares = [iou(values > 127, reference > 127) for values in maps]
    return np.asarray(np.mean(shares, axis=0), np.float64)


def voters_of(run: RunDirectory, fold: int, by: Config | None = None) -> list[tuple[Path, float]]:
    """The weights that speak for a fold, and how loud: as the run's recipe says, or as another one, `by`, does."""
    folder, config = run.fold(fold), (by or run.config).snapshots
    if config.combine == "weights":
        return [(folder.averaged, 1.0)]
    files = [folder.snapshots / snapshot["file"] for snapshot in run.fold_result(fold)["snapshots"][-config.keep :]]
    return list(zip(files, vote_weights(len(files), config.decay), strict=True))


def _key(tiles: TileSet, voters: Sequence[tuple[Path, float]], flip: bool) -> str:
    """What a prediction depends on: the tiles, the weights and how loud each of them is, and mirroring."""
    digest = hashlib.sha256(f"{tiles.images.shape}\n".encode() + "\n".join(tiles.ids).encode())
    digest.update(tiles.images.tobytes())
    if tiles.depths is not None:
        digest.update(tiles.depths.tobytes())
    for path, weight in voters:
        digest.update(weights_file(path))
        digest.update(repr(weight).encode())
    digest.update(repr(flip).encode())
    return digest.hexdigest()


def _read_note(path: Path) -> dict[str, str | int]:
    note: dict[str, str | int] = json.loads(path.read_text(encoding="utf-8"))
    return note
