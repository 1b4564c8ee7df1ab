"""Predictions of a finished run: each fold's own probabilities, kept apart on disk, and their mean."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.predict import Predictor, quantise, vote
from semisalt.inference.weights import load_weights, vote_weights
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
) -> list[Path]:
    """Each finished fold's probabilities on `tiles`, as folder/foldK.npy (uint8 [N, H, W]); returns the files.

    What is already there for these tiles and weights is kept; a killed prediction goes on where it was. Blank tiles
    get 0: they carry no signal and hold no salt.

    Raises:
        UserError: no fold of the run is finished.
    """
    folds = run.finished_folds()
    if not folds:
        raise UserError(f"{run.path}: no fold is finished; go on with --resume")
    files = []
    for fold in folds:
        file = folder / f"fold{fold}.npy"
        voters = _voters(run, fold)
        key = _key(tiles, [path for path, _ in voters])
        announce(f"fold {fold}: {len(tiles)} tiles → {file}")
        _predict_fold(file, key, tiles, voters, network, predictor)
        files.append(file)
    return files


def mean_of(files: Sequence[Path]) -> NDArray[np.uint8]:
    """Mean of the folds' probabilities, uint8 [N, H, W], read in chunks."""
    parts = [np.load(file, mmap_mode="r") for file in files]
    out = np.empty(parts[0].shape, np.uint8)
    for start in range(0, len(out), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        out[chunk] = vote((part[chunk] for part in parts), [1 / len(parts)] * len(parts))
    return out


def _predict_fold(
    file: Path,
    key: str,
    tiles: TileSet,
    voters: Sequence[tuple[Path, float]],
    network: nn.Module,
    predictor: Predictor,
) -> None:
    partial, note = file.with_suffix(".partial.npy"), file.with_suffix(".json")
    state = _read_note(note) if note.exists() else {}
    same = state.get("key") == key
    if same and file.exists():
        return
    if not same:
        # Of other tiles or weights: both gone before the new note claims what lies here.
        file.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    done = int(state.get("done", 0)) if same and partial.exists() else 0
    shape = (len(tiles), *tiles.shape)
    mode = "r+" if done else "w+"
    out = np.lib.format.open_memmap(partial, mode=mode, dtype=np.uint8, shape=None if done else shape)
    for start in range(done, len(tiles), _CHUNK):
        chunk = tiles.subset(np.arange(start, min(start + _CHUNK, len(tiles))))
        out[start : start + len(chunk)] = _vote(chunk, voters, network, predictor)
        out.flush()
        write_json(note, {"key": key, "done": start + len(chunk)})
    del out
    partial.replace(file)


def _vote(
    tiles: TileSet, voters: Sequence[tuple[Path, float]], network: nn.Module, predictor: Predictor
) -> NDArray[np.uint8]:
    seen = np.flatnonzero(~tiles.blank)
    visible = tiles.subset(seen)

    def speak(path: Path) -> NDArray[np.uint8]:
        load_weights(path, network)
        return quantise(predictor(network, visible))

    out = np.zeros((len(tiles), *tiles.shape), np.uint8)
    if len(seen):
        out[seen] = vote((speak(path) for path, _ in voters), [weight for _, weight in voters])
    return out


def _voters(run: RunDirectory, fold: int) -> list[tuple[Path, float]]:
    """The weights that speak for a fold, and how loud."""
    folder, config = run.fold(fold), run.config.snapshots
    if config.combine == "weights":
        return [(folder.averaged, 1.0)]
    files = [folder.snapshots / snapshot["file"] for snapshot in run.fold_result(fold)["snapshots"]]
    return list(zip(files, vote_weights(len(files), config.decay), strict=True))


def _key(tiles: TileSet, weights: Sequence[Path]) -> str:
    """What a prediction depends on: the tiles and the weights."""
    digest = hashlib.sha256(f"{tiles.images.shape}\n".encode() + "\n".join(tiles.ids).encode())
    digest.update(tiles.images.tobytes())
    if tiles.depths is not None:
        digest.update(tiles.depths.tobytes())
    for path in weights:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_note(path: Path) -> dict[str, str | int]:
    note: dict[str, str | int] = json.loads(path.read_text(encoding="utf-8"))
    return note
