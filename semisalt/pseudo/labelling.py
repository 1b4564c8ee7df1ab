"""A fold's pseudo-labels, by its own models alone: predict, measure, select, write with provenance."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semisalt.config import PseudoConfig
from semisalt.data.channels import Channels
from semisalt.data.tiles import TileSet
from semisalt.errors import RefusedError, UserError
from semisalt.files import remove_leftovers
from semisalt.inference.build import build_network, predictor_of
from semisalt.inference.ensemble import mean_iou, measures, predict_fold, voters_of
from semisalt.inference.predict import Predictor, quantise, vote
from semisalt.inference.weights import load_weights
from semisalt.pseudo.labels import LabelDirectory, Provenance, hash_files, refuse_leak, write_labels, write_provenance
from semisalt.pseudo.selection import (
    TAKEN,
    Candidates,
    decided_share,
    mean_confidence,
    own_threshold,
    select,
    thinned,
)
from semisalt.run import RunDirectory, read_csv
from semisalt.training.crossval import Division

Announce = Callable[[str], None]

# Tiles whose probabilities are held in memory at a time.
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Task:
    """What is labelled for a fold, and by whom.

    Attributes:
        source: the run whose models give the labels.
        fold: the fold that will learn from them.
        voters: the folds whose models vote: the fold's own, or all of them (pooled).
        bare: the survey's unlabelled tiles.
        division: the labelled tiles; those that lost their labels to the label fraction are candidates too.
        maps: folder of the source for the voters' probabilities.
        half: which half of the candidates may be taken, 0 or 1; None: all.
    """

    source: RunDirectory
    fold: int
    voters: tuple[int, ...]
    bare: TileSet
    division: Division
    maps: Path
    half: int | None = None

    @property
    def parts(self) -> list[tuple[TileSet, list[Path]]]:
        """The candidates in parts, each with the voters' files of probabilities: no tile is predicted twice.

        The first part is what `semisalt predict` predicts, too; then come the tiles that each other fold has set
        aside, which a voter of pooled labels predicts once for all folds.
        """
        parts = [(self.bare, [self.maps / f"fold{voter}.npy" for voter in self.voters])]
        for other in self.division.others(self.fold):
            files = [self.maps / f"fold{voter}-aside{other}.npy" for voter in self.voters]
            parts.append((self.division.aside(other), files))
        return [part for part in parts if len(part[0])]

    @property
    def candidates(self) -> TileSet:
        """All tiles that may be labelled. Raises UserError where there is none."""
        return self.division.candidates(self.fold, self.bare)


def label_fold(
    task: Task, config: PseudoConfig, folder: LabelDirectory, device: torch.device, announce: Announce
) -> None:
    """Label a fold's candidates and write the set, unless it is there already.

    Raises:
        RefusedError: the models' predictions have collapsed to background, or no tile is good enough.
        UserError: they have seen the fold's validation tiles, and are not pooled on purpose; or the recipe asks for
            what they cannot give.
    """
    if folder.complete():
        return
    begin = time.monotonic()
    for leftovers in (folder.path, task.maps):
        remove_leftovers(leftovers)  # of a killed labelling
    _refuse_unmeasured(task, config)
    provenance = _origin(task, folder)
    for tiles, files in task.parts:
        _predict(task, tiles, files, config, device, announce)
    prior = task.division.train(task.fold).coverage
    measured, threshold = _measure(task, config, float(prior.mean()), task.source.config.inference.thresholds)
    figures = _figures(measured, prior)
    _refuse_collapse(task, figures, config.least_salt)
    verdicts = select(measured, prior, config)
    if task.half is not None:
        verdicts = _halved(measured, prior, config, task)
    taken = np.flatnonzero(verdicts == TAKEN)
    if not len(taken):
        raise RefusedError(
            f"fold {task.fold}: no tile can be taken ({_tally(verdicts)}). Where most are undecided, lower "
            "pseudo.decided; where most are over their quota, they lack the labelled sizes of salt: see pseudo.quotas. "
            f"Begin with other settings by --from {task.source.path} and another --run"
        )
    labels = _labels(task, taken, None if config.labels == "soft" else threshold)
    digest = write_labels(folder, task.candidates, verdicts, measured, labels, soft=config.labels == "soft")
    figures["wanted_coverage"] = float(thinned(prior, config.empties).mean())
    figures["seconds"] = round(time.monotonic() - begin, 1)
    write_provenance(
        folder, Provenance(**{**vars(provenance), "threshold": threshold, "figures": figures, "labels": digest})
    )
    announce(f"fold {task.fold}: {len(taken)} of {len(verdicts)} tiles taken; {_tally(verdicts)}")


def learned_from(run: RunDirectory, fold: int) -> set[str]:
    """Ids of all tiles whose true labels a fold's models have learned from, in this run and the rounds before it.

    Where the validation score chose snapshots or the end of the training, the validation tiles are among them.
    """
    rows = read_csv(run.path / "folds.csv")
    own = {row["id"] for row in rows if row["fold"] != str(fold) and row["label_used"] == "1"}
    if run.config.chosen_by_score:
        own |= {row["id"] for row in rows if row["fold"] == str(fold)}
    labels = label_directory(run, fold)
    if labels.complete():
        return own | set(labels.provenance().learned_from)
    if "round" in run.provenance:
        raise UserError(
            f"{labels.path} is missing: nobody can tell any more what {run.path} has learned from, and whether it is "
            "fit to label; take another run by --from"
        )
    return own


def label_directory(run: RunDirectory, fold: int) -> LabelDirectory:
    """Where the labels lie that a fold of a round has learned from."""
    return LabelDirectory(run.path / "labels" / f"fold{fold}")


def halves(count: int, seed: int) -> NDArray[np.int64]:
    """0 or 1 for each of `count` candidates, at random, as many of each as can be."""
    return np.random.default_rng((seed, count)).permutation(count) % 2


def _origin(task: Task, folder: LabelDirectory) -> Provenance:
    """The provenance so far; checked before anything is predicted."""
    files = [path for voter in task.voters for path, _ in voters_of(task.source, voter)]
    known = sorted(set().union(*(learned_from(task.source, voter) for voter in task.voters)))
    pooled = task.voters != (task.fold,)
    models = {str(Path(name).relative_to(task.source.path)): digest for name, digest in hash_files(files).items()}
    source = str(task.source.path.resolve())
    provenance = Provenance(source, task.fold, models, tuple(known), pooled, 0.5, {}, "")
    if not pooled:
        refuse_leak(folder, provenance, task.division.validation(task.fold).ids)
    return provenance


def _refuse_unmeasured(task: Task, config: PseudoConfig) -> None:
    """The round's recipe may ask for a measure that its source cannot give."""
    run = task.source
    if config.mirrored and not run.config.inference.flip:
        raise UserError(
            f"pseudo.mirrored compares a tile with its mirror image, and {run.path} has inference.flip: false"
        )
    short = [voter for voter in task.voters if len(run.fold_result(voter)["snapshots"]) < 2]
    if config.stability and short:
        raise UserError(
            f"pseudo.stability compares snapshots, and fold {', '.join(map(str, short))} of {run.path} has one: "
            "set pseudo.stability to 0, or train the source with snapshots.keep of 2 or more"
        )


def _predict(
    task: Task, tiles: TileSet, files: Sequence[Path], config: PseudoConfig, device: torch.device, announce: Announce
) -> None:
    run = task.source
    channels = Channels(**run.channels)
    network = build_network(run.config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    predictor = predictor_of(run.config, channels, device)
    for voter, file in zip(task.voters, files, strict=True):
        announce(f"fold {voter} of {run.path.name}: {len(tiles)} tiles → {file}")
        predict_fold(run, voter, tiles, file, network, predictor)
        if config.stability:
            _add_stability(run, voter, tiles, file, network, predictor)


def _add_stability(
    run: RunDirectory, fold: int, tiles: TileSet, file: Path, network: nn.Module, predictor: Predictor
) -> None:
    """Where one set of weights votes, the earlier snapshots are predicted for the stability alone."""
    stability = np.load(measures(file)["stability"], mmap_mode="r+")
    # What a killed labelling has found stays found.
    unknown = np.flatnonzero(np.isnan(stability))
    snapshots = [run.fold(fold).snapshots / entry["file"] for entry in run.fold_result(fold)["snapshots"]]
    probabilities = np.load(file, mmap_mode="r")
    for start in range(0, len(unknown), _CHUNK):
        part = unknown[start : start + _CHUNK]
        maps = []
        for snapshot in snapshots:
            load_weights(snapshot, network)
            maps.append(quantise(predictor(network, tiles.subset(part))))
        stability[part] = mean_iou(maps, probabilities[part])
        stability.flush()


def _chunks(task: Task) -> Iterator[NDArray[np.uint8]]:
    """The voters' mean probabilities, a chunk of candidates at a time."""
    for tiles, files in task.parts:
        maps = [np.load(file, mmap_mode="r") for file in files]
        for start in range(0, len(tiles), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield vote((values[part] for values in maps), [1 / len(maps)] * len(maps))


def _measure(task: Task, config: PseudoConfig, prior: float, thresholds: tuple[float, ...]) -> tuple[Candidates, float]:
    tiles = task.candidates
    blank = tiles.blank
    histogram = np.zeros(256, np.int64)
    decided, confidence, areas = [], [], []
    start = 0
    for chunk in _chunks(task):
        visible = chunk[~blank[start : start + len(chunk)]]
        histogram += np.bincount(visible.ravel(), minlength=256)
        decided.append(decided_share(chunk, config.low, config.high))
        confidence.append(mean_confidence(chunk))
        start += len(chunk)
    if not histogram.any():
        raise UserError(
            f"fold {task.fold}: all of the {len(tiles)} unlabelled tiles are blank, there is nothing to learn"
        )
    threshold = own_threshold(histogram, prior, thresholds) if config.threshold == "own" else config.threshold
    if config.labels == "soft":
        threshold = 0.5  # where the losses that know no probabilities part soft labels
    for chunk in _chunks(task):
        areas.append(np.count_nonzero(chunk > threshold * 255, axis=(1, 2)))
    beside = {
        name: np.concatenate([np.mean([np.load(measures(f)[name]) for f in files], axis=0) for _, files in task.parts])
        for name in ("agreement", "stability")
    }
    height, width = tiles.shape
    measured = Candidates(
        blank=blank,
        decided=np.concatenate(decided),
        confidence=np.concatenate(confidence),
        agreement=beside["agreement"].astype(np.float64),
        stability=beside["stability"].astype(np.float64),
        area=np.concatenate(areas).astype(np.int64),
        pixels=height * width,
    )
    return measured, float(threshold)


def _halved(measured: Candidates, prior: NDArray[np.float64], config: PseudoConfig, task: Task) -> NDArray[np.str_]:
    """The verdicts where only one half of the candidates may be taken."""
    mine = halves(len(measured.blank), task.source.config.seed) == task.half
    verdicts = np.full(len(mine), "of the other half", object)
    own = Candidates(
        **{name: value[mine] if isinstance(value, np.ndarray) else value for name, value in vars(measured).items()}
    )
    verdicts[mine] = select(own, prior, config)
    return np.asarray(verdicts, np.str_)


def _labels(task: Task, taken: NDArray[np.int64], threshold: float | None) -> NDArray[np.uint8]:
    """The taken tiles' probabilities, or with a threshold their masks, uint8 [n, H, W], p = value / 255."""
    out, start = [], 0
    for chunk in _chunks(task):
        mine = taken[(taken >= start) & (taken < start + len(chunk))] - start
        values = chunk[mine]
        out.append(values if threshold is None else (values > threshold * 255) * np.uint8(255))
        start += len(chunk)
    return np.concatenate(out)


def _figures(measured: Candidates, prior: NDArray[np.float64]) -> dict[str, float]:
    seen = ~measured.blank
    return {
        "foreground": float(measured.coverage[seen].mean()) if seen.any() else 0.0,
        "empty_share": float((measured.area[seen] == 0).mean()) if seen.any() else 0.0,
        "prior_foreground": float(prior.mean()),
        "prior_empty_share": float((prior == 0).mean()),
    }


def _refuse_collapse(task: Task, figures: dict[str, float], least_salt: float) -> None:
    if figures["foreground"] < least_salt * figures["prior_foreground"]:
        raise RefusedError(
            f"{task.source.path}, fold {task.fold}: its predictions have collapsed to background: "
            f"{figures['foreground']:.1%} of the unlabelled pixels are salt, {figures['prior_foreground']:.1%} of the "
            f"labelled ones; {figures['empty_share']:.0%} of the tiles are empty, {figures['prior_empty_share']:.0%} "
            "of the labelled ones. Labels like these would teach the next round to see nothing: begin under another "
            "--run, with a lower pseudo.threshold or from another run (--from). Where the unlabelled tiles truly have "
            "so little salt, lower pseudo.least_salt"
        )


def _tally(verdicts: NDArray[np.str_]) -> str:
    names, counts = np.unique(verdicts[verdicts != TAKEN], return_counts=True)
    return ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True)) or "none refused"
