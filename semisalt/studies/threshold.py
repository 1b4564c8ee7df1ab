"""Studies of level threshold: how a finished run's voters are heard, and at which operating point. Nothing is trained.

They take seconds, in one process on all cores; every trial is stored as soon as it is scored.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from semisalt.data.folds import held_out
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.evaluate import load_oof, unreadable, usable_tiles
from semisalt.inference.outputs import own_survey
from semisalt.inference.threshold import Operating
from semisalt.metrics import bootstrap, paired_bootstrap
from semisalt.processes import join
from semisalt.run import RunDirectory
from semisalt.studies.best import best_trial
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.in_memory import search_in_memory
from semisalt.studies.request import StudyRequest
from semisalt.studies.search import open_desk
from semisalt.studies.space import Space
from semisalt.studies.storage import locked
from semisalt.studies.views import FoldViews, predicted_views, stored_views
from semisalt.studies.votes import Votes, Voting, whole_scores

Announce = Callable[[str], None]

# Each key that may be searched, its kind, and the least and greatest value.
KEYS: dict[str, tuple[str, float, float]] = {
    "threshold": ("float", 0.01, 0.99),
    "min_salt": ("int", 0, 10_000),
    "min_hole": ("int", 0, 10_000),
    "snapshots.keep": ("int", 1, 1_000),
    "snapshots.decay": ("float", 0.01, 1),
    "inference.flip": ("categorical", 0, 1),
}


@dataclass(frozen=True, eq=False)
class Material:
    """What a study of level threshold searches: out-of-fold tiles, who may choose on them, and who judges.

    Attributes:
        run, tiles: the run and its out-of-fold tiles, N.
        search: [N], tiles that the search may use.
        holdout: [N], tiles that it never sees.
    """

    run: RunDirectory
    tiles: TileSet
    search: NDArray[np.bool_]
    holdout: NDArray[np.bool_]


def material_of(run: RunDirectory, labelled: TileSet, share: float, seed: int) -> Material:
    """Part a run's out-of-fold tiles: a share for the last judgement, the rest (as far as its labels may be used) to
    search on.

    Raises UserError while no fold is finished.
    """
    _, tiles, _ = load_oof(run, labelled)
    out = held_out(tiles.coverage, tiles.depths, None, share, seed)
    return Material(run, tiles, ~out & usable_tiles(run, tiles), out)


def check_threshold_space(source: str, space: Space) -> None:
    """Refuse keys and values that make no sense without training. Raises UserError, naming file and key."""
    if "threshold" not in space:
        raise UserError(f"{source}: space: the key 'threshold' is missing")
    for key, parameter in space.items():
        where = f"{source}: space: {key}"
        if key not in KEYS:
            raise UserError(f"{where}: not to be had without training; known: {', '.join(KEYS)}")
        if parameter.when:
            raise UserError(f"{where}: when: conditions are for studies that train; leave it out")
        kind, least, most = KEYS[key]
        if parameter.kind != kind:
            raise UserError(f"{where}: of kind {kind}, not {parameter.kind}")
        if kind == "categorical" and not all(isinstance(choice, bool) for choice in parameter.choices or ()):
            raise UserError(f"{where}: its choices are true and false")
        low, high = parameter.low, parameter.high
        if kind != "categorical" and low is not None and high is not None and not least <= low <= high <= most:
            raise UserError(f"{where}: from {low} to {high} leaves {least:g} to {most:g}")


def search_threshold(
    directory: StudyDirectory, total: int, timeout: float | None, announce: Announce
) -> dict[str, Any] | None:
    """Search until `total` trials are stored, then judge the best; None where the time was up before that.

    Raises:
        UserError: the run is gone, or its predictions are others by now: which tiles may be searched hangs on them.
    """
    request = directory.request
    run = RunDirectory.open(Path(str(request.run)))
    if fingerprint_of(run) != request.data["weights"]:
        raise UserError(
            f"{run.path} has other predictions than {directory.path} was begun with (another fold was finished, or it "
            "was trained again): search them under another name, by --run"
        )
    survey = own_survey(run, Path(request.data["path"]))
    material = material_of(run, survey.labelled, request.holdout, request.seed)
    views = views_of(request.space, run, survey.labelled, announce)
    stored = open_desk(directory)
    stored.study.set_user_attr("trials", total)
    with locked(directory):
        reached = _search(request, stored.study, total, timeout, material, views, announce)
    own = stored_views(run, survey.labelled)
    return _judge(directory, directory.open_study(), material, views, own) if reached else None


def views_of(space: Space, run: RunDirectory, labelled: TileSet, announce: Announce) -> list[FoldViews]:
    """The predictions that a space needs: those that the run has, or each voter's, made now where they are missing."""
    snapshots = any(key.startswith("snapshots.") for key in space)
    flip = space.get("inference.flip")
    if not snapshots and flip is None:
        return stored_views(run, labelled)
    own = run.config.inference.flip
    flips = {bool(choice) for choice in flip.choices or ()} if flip else set()
    device = join().device
    return predicted_views(run, labelled, device, announce, snapshots=snapshots, flips=tuple(sorted(flips | {own})))


def fingerprint_of(run: RunDirectory) -> str:
    """What a run's predictions depend on: its finished folds' out-of-fold probabilities, SHA-256 (hex).

    Raises UserError where they are gone.
    """
    digest = sha256()
    for fold in run.finished_folds():
        file = run.fold(fold).probabilities
        if not file.exists():
            raise unreadable(file, "missing")
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _search(
    request: StudyRequest,
    stored: optuna.Study,
    total: int,
    timeout: float | None,
    material: Material,
    views: list[FoldViews],
    announce: Announce,
) -> bool:
    """Make the trials that are missing; whether all were made."""
    before = len(stored.get_trials(deepcopy=False))
    if before >= total:
        return True
    began = time.monotonic()
    votes = votes_of(request.space, material, views)
    announce(f"{votes.count} tiles made ready in {time.monotonic() - began:.1f} s")

    def score(params: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        voting, operating = point_of(params, material.run)
        scores = votes.scores(voting, operating)
        # The bootstrap of the best is made at the end; for each trial it would cost more than the trial.
        value, margin = float(scores.mean()), 1.96 * float(scores.std()) / len(scores) ** 0.5
        interval = {"value": value, "low": value - margin, "high": value + margin}
        return value, {"score": interval, "operating": asdict(operating)}

    began = time.monotonic()
    reached = search_in_memory(request, stored, total, timeout, score)
    made, spent = len(stored.get_trials(deepcopy=False)) - before, time.monotonic() - began
    announce(f"{made} trials on {votes.count} tiles in {spent:.1f} s, {made / spent:.0f} a second")
    return reached


def votes_of(space: Space, material: Material, views: list[FoldViews]) -> Votes:
    """The scorer of a space on the tiles that may be searched."""
    ends = [round(float(end), 6) for end in (space["threshold"].low, space["threshold"].high) if end is not None]
    islands, holes = (int(space[name].high or 0) if name in space else 0 for name in ("min_salt", "min_hole"))
    return Votes(views, masks_of(material), material.search, (min(ends), max(ends)), islands, holes)


def masks_of(material: Material) -> NDArray[np.uint8]:
    """The truth of the out-of-fold tiles, [N, H, W]."""
    assert material.tiles.masks is not None  # noqa: S101  # out-of-fold tiles are labelled
    return material.tiles.masks


def point_of(params: dict[str, Any], run: RunDirectory) -> tuple[Voting, Operating]:
    """What a trial's values say; where one is not searched the run's own voting holds, and nothing is dropped."""
    snapshots = run.config.snapshots
    voting = Voting(
        int(params.get("snapshots.keep", snapshots.keep)),
        float(params.get("snapshots.decay", snapshots.decay)),
        bool(params.get("inference.flip", run.config.inference.flip)),
    )
    sizes = (int(params.get(name, 0)) for name in ("min_salt", "min_hole"))
    return voting, Operating(round(float(params["threshold"]), 6), *sizes)


def _judge(
    directory: StudyDirectory,
    study: optuna.study.Study,
    material: Material,
    views: list[FoldViews],
    own: list[FoldViews],
) -> dict[str, Any] | None:
    """The best point against the run as it is (`own`) at 0.5, on tiles that no trial saw; writes holdout.json."""
    if not material.holdout.any():
        return None
    best = best_trial(study, directory.path)

    def scores(heard: list[FoldViews], voting: Voting, operating: Operating) -> NDArray[np.float64]:
        return whole_scores(heard, masks_of(material), material.holdout, voting, operating)

    default = scores(own, *point_of({"threshold": 0.5}, material.run))
    voting, operating = point_of(best.params, material.run)
    chosen, plain = scores(views, voting, operating), scores(views, voting, Operating(0.5))
    result = {
        "best_trial": best.number,
        "search_score": _search_score(best, material, views),
        "tiles": len(default),
        "default": asdict(bootstrap(default)),
        "best": asdict(bootstrap(chosen)),
        "difference": asdict(paired_bootstrap(chosen, default)),
        "at_half": {
            "default": asdict(bootstrap(default)),
            "best": asdict(bootstrap(plain)),
            "difference": asdict(paired_bootstrap(plain, default)),
        },
    }
    write_json(directory.path / "holdout.json", result)
    return result


def _search_score(best: FrozenTrial, material: Material, views: list[FoldViews]) -> dict[str, float]:
    point = point_of(best.params, material.run)
    return asdict(bootstrap(whole_scores(views, masks_of(material), material.search, *point)))


def check_keep(source: str, space: Space, run: RunDirectory) -> None:
    """Refuse to hear more snapshots than each finished fold of a run has. Raises UserError, naming file and key."""
    keep = space.get("snapshots.keep")
    fewest = min((len(run.fold_result(fold)["snapshots"]) for fold in run.finished_folds()), default=0)
    if keep is not None and keep.high is not None and keep.high > fewest:
        raise UserError(
            f"{source}: space: snapshots.keep: up to {keep.high}, but a fold of {run.path} has {fewest}: set high to "
            f"{fewest} in a copy of the file" + (", or leave the key out" if fewest < 2 else "")
        )
