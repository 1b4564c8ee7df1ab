"""A run's figures, all from its out-of-fold probabilities."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.files import write_array, write_json
from semisalt.inference.threshold import Grid, Operating, apply, tabulate
from semisalt.metrics import bootstrap, precision, summary
from semisalt.run import RunDirectory, read_csv, write_csv

Probabilities = NDArray[np.uint8]
# Where tiles are scored: at 0.5 without post-processing, or each at the operating point that others of its run chose.
Point = Literal["half", "cross_fitted"]


def evaluate(run: RunDirectory, labelled: TileSet) -> dict[str, Any]:
    """Assemble the finished folds' out-of-fold probabilities, choose the operating point, write results.json.

    Three figures are given, from the plainest to the most flattering: at 0.5 without post-processing; cross-fitted,
    each fold's tiles at the operating point that the other folds chose; and at the point chosen on all of them, which
    is what predictions use. Only tiles whose labels the run may use choose. Raises UserError while no fold is finished.
    """
    probabilities, tiles, fold_of = load_oof(run, labelled)
    usable = usable_tiles(run, tiles)
    write_array(run.path / "oof.npy", probabilities)
    write_csv(run.path / "oof.csv", ("id", "fold"), list(zip(tiles.ids, fold_of.tolist(), strict=True)))
    assert tiles.masks is not None  # noqa: S101  # out-of-fold tiles are labelled
    grid = _grid(run, probabilities, tiles)
    search = grid.only(usable).search()
    fitted = grid.cross_fitted(_groups(fold_of, usable), usable)
    results = {
        "tiles": len(tiles),
        # Not a score of tiles never seen: whoever reads the figures must find the word beside them.
        **({"inflated": run.inflated} if run.inflated else {}),
        "label_fraction": run.config.data.label_fraction,
        "combine": run.config.snapshots.combine,
        "at_half": asdict(summary(apply(probabilities, Operating(0.5)), tiles.masks)),
        "cross_fitted": asdict(bootstrap(fitted)),
        "chosen": asdict(summary(apply(probabilities, search.best), tiles.masks)),
        "operating": asdict(search.best),
        "curve": {"thresholds": search.curve.thresholds.tolist(), "precision": search.curve.scores.tolist()},
        "folds": {str(fold): run.fold_result(fold) for fold in run.finished_folds()},
    }
    results |= _verdict_on_mosaics(run, results)
    write_json(run.path / "results.json", results)
    return results


def _verdict_on_mosaics(run: RunDirectory, results: dict[str, Any]) -> dict[str, Any]:
    """What `semisalt mosaic evaluate` left in results.json, as long as it is of the same folds."""
    if not (run.path / "results.json").exists():
        return {}
    before = run.results
    same = before.get("folds") == results["folds"]
    return {"mosaics": before["mosaics"]} if same and "mosaics" in before else {}


def operating_point(run: RunDirectory) -> Operating:
    """The operating point that a run chose."""
    return Operating(**run.results["operating"])


def load_oof(run: RunDirectory, labelled: TileSet) -> tuple[Probabilities, TileSet, NDArray[np.int64]]:
    """Out-of-fold probabilities of the finished folds, their tiles in the same order, and each tile's fold.

    Raises UserError while no fold is finished.
    """
    folds = run.finished_folds()
    if not folds:
        raise UserError(f"{run.path}: no fold is finished; go on with --resume")
    return _assemble(dict.fromkeys(folds, run), labelled)


def _assemble(runs: Mapping[int, RunDirectory], labelled: TileSet) -> tuple[Probabilities, TileSet, NDArray[np.int64]]:
    """As `load_oof`, of finished folds, each of the run that has it."""
    position = {tile: index for index, tile in enumerate(labelled.ids)}
    members = {
        fold: [row["id"] for row in read_csv(run.path / "folds.csv") if row["fold"] == str(fold)]
        for fold, run in runs.items()
    }
    probabilities = np.concatenate([_load_probabilities(run.fold(fold).probabilities) for fold, run in runs.items()])
    order = np.array([position[tile] for tiles in members.values() for tile in tiles])
    fold_of = np.repeat(list(members), [len(tiles) for tiles in members.values()])
    return probabilities, labelled.subset(order), fold_of


def _load_probabilities(path: Path) -> Probabilities:
    try:
        values: Probabilities = np.load(path)
    except (FileNotFoundError, EOFError, ValueError) as error:
        raise unreadable(path, "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})") from None
    return values


def unreadable(path: Path, what: str) -> UserError:
    """What to say of a fold's probabilities that are missing or damaged, and the way out."""
    return UserError(
        f"{path} is {what}: remove the fold's result.json beside it and go on with --resume, which predicts its tiles "
        "again"
    )


def tile_scores(runs: Mapping[int, RunDirectory], survey: Survey, point: Point = "half") -> NDArray[np.float64]:
    """Precision on the out-of-fold tiles of some folds, [N], fold after fold, and in each in the order of the ids.

    Runs that divided the tiles alike have the same tiles in the same order.

    Args:
        runs: by fold, a run that has finished it; all of one recipe.
        survey: the tiles that they were made from.
        point: at half nothing was chosen on any tile. Cross-fitted, each fold's tiles are scored at the operating point
            that the other folds' usable tiles chose, as `evaluate` does over all folds of a run; of a single fold its
            halves choose for each other.
    """
    probabilities, tiles, fold_of = _assemble(runs, survey.labelled)
    assert tiles.masks is not None  # noqa: S101  # out-of-fold tiles are labelled
    if point == "half":
        scores = precision(probabilities > 127, tiles.masks)
    else:
        usable = np.concatenate(
            [usable_tiles(run, tiles.subset(np.flatnonzero(fold_of == fold))) for fold, run in runs.items()]
        )
        first = next(iter(runs.values()))
        scores = _grid(first, probabilities, tiles).cross_fitted(_groups(fold_of, usable), usable)
    ids = np.array(tiles.ids)
    return np.concatenate([scores[fold_of == fold][np.argsort(ids[fold_of == fold])] for fold in runs])


def usable_tiles(run: RunDirectory, tiles: TileSet) -> NDArray[np.bool_]:
    """The tiles whose labels the run may use, [N]."""
    used = {row["id"] for row in read_csv(run.path / "folds.csv") if row["label_used"] == "1"}
    return np.array([tile in used for tile in tiles.ids])


def _grid(run: RunDirectory, probabilities: Probabilities, tiles: TileSet) -> Grid:
    """Every tile's score at every operating point that the run knows of."""
    inference = run.config.inference
    assert tiles.masks is not None  # noqa: S101  # out-of-fold tiles are labelled
    return tabulate(probabilities, tiles.masks, inference.thresholds, inference.min_salts, inference.min_holes)


def _groups(fold_of: NDArray[np.int64], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Folds as groups to cross-fit over; a single fold is halved by turns, usable tiles and others each."""
    if len(np.unique(fold_of)) > 1:
        return fold_of
    halves = np.empty(len(fold_of), np.int64)
    for part in (usable, ~usable):
        halves[part] = np.arange(np.count_nonzero(part)) % 2
    return halves
