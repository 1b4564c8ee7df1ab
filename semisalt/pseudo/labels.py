"""A fold's pseudo-labels on disk, and the proof that they know nothing of its validation tiles.

labels/foldK/
  tiles.csv         every candidate: measures, hard coverage, 'taken' or the reason against it
  labels.csv        hard labels: id and run lengths       (one of the two)
  labels.npy        soft labels: uint8 [n, H, W], p = value / 255, in the order of the taken tiles
  provenance.json   written last: the models by the hashes of their weights, and every label that they learned from
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semisalt.data.rle import decode, encode
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.files import write_array, write_json
from semisalt.pseudo.selection import TAKEN, Candidates
from semisalt.run import read_csv, read_json, write_csv

_SHOWN = 3  # ids that an error names
FIELDS = ("id", "verdict", "coverage", "decided", "confidence", "agreement", "stability")


@dataclass(frozen=True)
class Provenance:
    """Where a set of labels comes from.

    Attributes:
        source: the run whose models gave the labels.
        fold: the fold that the labels are for.
        models: for each file of weights that voted, its sha256.
        learned_from: ids of all tiles whose true labels those models learned from, in whatever round, ascending.
        pooled: whether models of other folds voted too.
        threshold: of hard labels.
        figures: what the guards looked at.
        labels: sha256 of the labels' file.
    """

    source: str
    fold: int
    models: dict[str, str]
    learned_from: tuple[str, ...]
    pooled: bool
    threshold: float
    figures: dict[str, float]
    labels: str


@dataclass(frozen=True)
class LabelDirectory:
    """The files of one fold's label set."""

    path: Path

    @property
    def tiles(self) -> Path:
        return self.path / "tiles.csv"

    @property
    def provenance_file(self) -> Path:
        return self.path / "provenance.json"

    def complete(self) -> bool:
        """Whether the set was written to its end."""
        return self.provenance_file.exists()

    def provenance(self) -> Provenance:
        """Raises UserError where it is missing or unreadable."""
        kept = read_json(self.provenance_file)
        try:
            return Provenance(**{**kept, "learned_from": tuple(kept["learned_from"])})
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.provenance_file}: not the provenance of pseudo-labels ({error})") from None


def write_labels(
    folder: LabelDirectory,
    candidates: TileSet,
    verdicts: NDArray[np.str_],
    measured: Candidates,
    labels: NDArray[np.uint8],
    *,
    soft: bool,
) -> str:
    """Write tiles.csv and the taken tiles' labels; returns the labels' sha256. The provenance is for the caller to add.

    Args:
        folder: where.
        candidates: N tiles.
        verdicts: [N], see selection.select.
        measured: of the N tiles.
        labels: of the taken tiles, uint8 [n, H, W], p = value / 255; hard ones are 0 or 255.
        soft: whether probabilities are kept as they are.
    """
    columns = (measured.coverage, measured.decided, measured.confidence, measured.agreement, measured.stability)
    numbers = [[f"{value:.4f}" for value in column] for column in columns]
    write_csv(folder.tiles, FIELDS, list(zip(candidates.ids, verdicts.tolist(), *numbers, strict=True)))
    taken = [tile for tile, verdict in zip(candidates.ids, verdicts, strict=True) if verdict == TAKEN]
    if soft:
        write_array(folder.path / "labels.npy", labels)
    else:
        rows = [(tile, encode(label)) for tile, label in zip(taken, labels, strict=True)]
        write_csv(folder.path / "labels.csv", ("id", "rle_mask"), rows)
    return _sha256(_labels_file(folder))


def write_provenance(folder: LabelDirectory, provenance: Provenance) -> None:
    """Last of all: its existence says that the set is complete."""
    write_json(folder.provenance_file, asdict(provenance))


def verdicts_of(folder: LabelDirectory) -> list[dict[str, str]]:
    """The rows of tiles.csv."""
    return read_csv(folder.tiles)


def load_labels(folder: LabelDirectory, candidates: TileSet) -> TileSet:
    """The taken tiles with their labels, soft ones beside their hard form.

    Raises:
        UserError: a file is missing or was changed, or the candidates are other tiles.
    """
    provenance = folder.provenance()
    file = _labels_file(folder)
    if _sha256(file) != provenance.labels:
        raise UserError(f"{file} was changed after it was written: remove {folder.path} to label the fold anew")
    rows = verdicts_of(folder)
    if [row["id"] for row in rows] != list(candidates.ids):
        raise UserError(f"{folder.tiles} is of other tiles: remove {folder.path} to label the fold anew")
    taken = candidates.subset(np.array([row["verdict"] == TAKEN for row in rows], np.bool_))
    if file.suffix == ".npy":
        soft: NDArray[np.uint8] = np.load(file)
        _refuse_changed(folder, len(soft) != len(taken))
        masks = (soft > provenance.threshold * 255).astype(np.uint8)
        return TileSet(taken.ids, taken.images, masks, taken.depths, soft)
    labels = read_csv(file)
    _refuse_changed(folder, [row["id"] for row in labels] != list(taken.ids))
    masks = np.array([decode(row["rle_mask"], taken.shape) for row in labels], np.uint8)
    return TileSet(taken.ids, taken.images, masks.reshape(-1, *taken.shape), taken.depths)


def refuse_leak(folder: LabelDirectory, provenance: Provenance, validation: Collection[str]) -> None:
    """Raise UserError where the labels' models have learned from a tile that the fold is validated on."""
    met = sorted(set(provenance.learned_from) & set(validation))
    if met:
        shown = ", ".join(met[:_SHOWN]) + (" …" if len(met) > _SHOWN else "")
        raise UserError(
            f"{folder.provenance_file}: these labels come from models that learned from {len(met)} of fold "
            f"{provenance.fold}'s validation tiles ({shown}); a score on them would be worthless. Label the fold by "
            "its own models, or say --pooled to train for a submission, with the score marked as inflated"
        )


def refuse_other_labels(folder: LabelDirectory, provenance: Provenance, fold: int, *, pooled: bool) -> None:
    """Raise UserError for labels of another fold, and for pooled ones where they are not asked for, or the reverse."""
    if provenance.fold != fold:
        raise UserError(
            f"{folder.provenance_file}: these labels were made for fold {provenance.fold}, not for fold {fold}: "
            f"remove {folder.path} to label the fold anew"
        )
    if provenance.pooled != pooled:
        found, wanted = ("pooled", "its own models'") if provenance.pooled else ("its own models'", "pooled")
        raise UserError(
            f"{folder.provenance_file}: these labels are {found}, this run's are {wanted}: "
            f"remove {folder.path} to label the fold anew"
        )


def refuse_other_models(folder: LabelDirectory, provenance: Provenance, source: Path, weights: Path) -> None:
    """Raise UserError where `weights`, a file of the run `source`, are not those that gave the labels."""
    if provenance.models.get(str(weights.relative_to(source))) != _sha256(weights):
        raise UserError(
            f"{weights} was changed after it had labelled for {folder.path}, and nobody knows what it has learned "
            f"from: remove {folder.path} to label the fold anew"
        )


def hash_files(files: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file, by its path."""
    return {str(file): _sha256(file) for file in files}


def _refuse_changed(folder: LabelDirectory, changed: bool) -> None:
    if changed:
        raise UserError(
            f"{folder.tiles} names other tiles as taken than were labelled: it was changed after it was written; "
            f"remove {folder.path} to label the fold anew"
        )


def _labels_file(folder: LabelDirectory) -> Path:
    soft = folder.path / "labels.npy"
    return soft if soft.exists() else folder.path / "labels.csv"


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
