"""The last judgement: the base recipe and the best trial on tiles that no trial ever met.

The best of fifty trials flatters itself on the tiles that chose it. Its own score is kept beside the honest one.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from semisalt.data.tiles import Survey, TileSet
from semisalt.files import held, write_json
from semisalt.inference.outputs import predict
from semisalt.metrics import bootstrap, paired_bootstrap, precision
from semisalt.run import RunDirectory, write_csv
from semisalt.studies.best import best_trial
from semisalt.studies.directory import StudyDirectory
from semisalt.training.crossval import divide
from semisalt.training.job import run_training

Announce = Callable[[str], None]
Scores = NDArray[np.float64]


def judge(
    directory: StudyDirectory, study: optuna.study.Study, survey: Survey, device: torch.device, announce: Announce
) -> dict[str, Any] | None:
    """Train the base recipe as the trials were, score it and the best trial on the holdout, write holdout.json.

    Each predicts with all its folds, at its own operating point and at 0.5. Returns what is written; None for a study
    without a holdout.

    Raises:
        UserError: no trial is finished.
    """
    holdout = divide(survey, directory.request.base).holdout
    if not len(holdout):
        return None
    best = best_trial(study, directory.path)
    with held(directory.path / ".judge.lock"):  # several workers may have come to the end together
        before = directory.holdout_result()
        if before is not None and before["best_trial"] == best.number:
            return before
        train_default(directory, survey, announce)
        return _judge(directory, best, holdout, device, announce)


def _judge(
    directory: StudyDirectory, best: FrozenTrial, holdout: TileSet, device: torch.device, announce: Announce
) -> dict[str, Any]:
    runs = {
        "default": RunDirectory.open(directory.default),
        "best": RunDirectory.open(directory.path / best.user_attrs["run"]),
    }
    chosen, plain = {}, {}
    for name, run in runs.items():
        with run.lock(wait=announce):
            chosen[name], plain[name] = score(run, holdout, device)
    result = {"best_trial": best.number, "search_score": best.user_attrs["score"], **verdict(chosen, plain)}
    rows = zip(holdout.ids, *(scores[name].tolist() for scores in (chosen, plain) for name in runs), strict=True)
    write_csv(directory.path / "holdout.csv", ("id", *runs, *(f"{name}_at_half" for name in runs)), list(rows))
    write_json(directory.path / "holdout.json", result)
    return result


def verdict(chosen: dict[str, Scores], plain: dict[str, Scores]) -> dict[str, Any]:
    """Scores [N] of 'default' and 'best' as intervals, at their operating points (and at 0.5), and their difference."""
    return {
        "tiles": len(chosen["best"]),
        "default": asdict(bootstrap(chosen["default"])),
        "best": asdict(bootstrap(chosen["best"])),
        "difference": asdict(paired_bootstrap(chosen["best"], chosen["default"])),
        "at_half": {
            **{name: asdict(bootstrap(values)) for name, values in plain.items()},
            "difference": asdict(paired_bootstrap(plain["best"], plain["default"])),
        },
    }


def train_default(directory: StudyDirectory, survey: Survey, announce: Announce) -> None:
    """Train the base recipe on the trials' folds, or go on with it where it was begun."""
    request, run = directory.request, RunDirectory(directory.default)
    begun = (run.path / "config.yaml").exists() and run.has_checkpoint()
    announce(f"the base recipe, to compare with: {run.path}")
    run_training(run.path, survey, request.base, folds=request.wanted_folds, resume=begun, announce=announce)


def score(run: RunDirectory, tiles: TileSet, device: torch.device) -> tuple[Scores, Scores]:
    """Each tile's score at the run's operating point and at 0.5, [N] each."""
    assert tiles.masks is not None  # noqa: S101  # holdout tiles are labelled
    prediction = predict(run, tiles, run.path / "holdout", device, _quiet)
    return precision(prediction.masks, tiles.masks), precision(prediction.probabilities > 127, tiles.masks)


def _quiet(_: str) -> None:
    """What a prediction says of its files is of no interest here."""
