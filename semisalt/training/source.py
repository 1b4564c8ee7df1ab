"""A finished run that another one builds on: its tiles, its folds, its networks."""

import re
from collections.abc import Sequence
from pathlib import Path

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.inference.build import channels_of
from semisalt.inference.ensemble import voters_of
from semisalt.recipe import differences
from semisalt.run import RunDirectory


def check_division(run: RunDirectory, survey: Survey, config: Config, folds: Sequence[int], role: str) -> None:
    """Refuse a run of other tiles, of unfinished folds, or with the tiles divided otherwise than `config` does.

    `role` says in the message what the run cannot be. Raises UserError.
    """
    if run.provenance["data"] != survey.fingerprint:
        raise UserError(
            f"{run.path} was made from other data (fingerprint {run.provenance['data']}): give that by --data, or "
            "another run by --from"
        )
    missing = sorted(set(folds) - set(run.finished_folds()))
    if missing:
        raise UserError(
            f"{run.path}: fold {', '.join(map(str, missing))} not finished; go on with it by --resume, or choose other "
            "--folds"
        )
    keys = ("seed", "data.folds", "data.groups", "data.holdout", "data.label_fraction")
    changed = [line for line in differences(config, run.config) if line.partition(":")[0] in keys]
    if changed:
        raise UserError(f"{run.path} cannot be {role}, it divided the tiles differently:\n  " + "\n  ".join(changed))


def check_networks(run: RunDirectory, survey: Survey, config: Config, what: str, way_out: str) -> None:
    """Refuse a run whose networks are not those of `config`; `what` begins with its weights.

    `way_out` tells in the message what to do. Raises UserError.
    """
    # The run's is settled: to agree with anything, as `auto` does, is not to fit.
    depth = channels_of(config, survey).depth_range is not None
    asked = config.model_copy(update={"channels": config.channels.model_copy(update={"depth": depth})})
    changed = [
        line
        for line in differences(asked, run.config)
        if line.startswith(("model.", "channels.")) and not line.startswith("model.weights:")
    ]
    views = [one.co_training.views if one.method == "co_training" else 1 for one in (run.config, config)]
    if views[0] != views[1]:
        changed.append(f"views: {views[0]} in the run, {views[1]} asked for")
    if changed:
        raise UserError(
            f"{what} cannot begin with the weights of {run.path}, whose networks are others: {way_out}\n  "
            + "\n  ".join(changed)
        )


def check_start(run: RunDirectory, survey: Survey, config: Config, folds: Sequence[int]) -> None:
    """Refuse a run whose weights must not be what each fold begins with.

    Raises:
        UserError: other tiles, folds or networks; or its weights know the fold's validation tiles.
    """
    check_division(run, survey, config, folds, "what a training begins with")
    check_networks(run, survey, config, "--from", "give a run of the same ones, or none")
    _refuse_knowing(run)


def check_weights(survey: Survey, config: Config, folds: Sequence[int]) -> None:
    """Refuse a file of weights (`model.weights`) that lies in a run and knows what one of the folds is validated on.

    A run of the same survey has a file for each of its folds, and to that one's validation tiles alone it is a
    stranger. Of files elsewhere, and of other surveys' runs, nothing is known, and nothing is refused.

    Raises:
        UserError: another fold's weights, or of a run whose weights may not be gone on from (see check_start).
    """
    file = Path(config.model.weights).resolve()
    owner = next((parent for parent in file.parents if (parent / "folds.csv").exists()), None)
    if owner is None or not file.exists():
        return
    run, name = RunDirectory.open(owner), file.relative_to(owner).parts[0]
    numbered = re.fullmatch(r"fold(\d+)", name)
    if run.provenance["data"] != survey.fingerprint or numbered is None:
        return
    fold = int(numbered[1])
    others = sorted(set(folds) - {fold})
    if others:
        raise UserError(
            f"model.weights: {file} has learned from the tiles that fold {', '.join(map(str, others))} is validated "
            f"on. Begin each fold with its own weights by --from {run.path}, or train fold {fold} alone"
        )
    check_division(run, survey, config, folds, "where model.weights comes from")
    _refuse_knowing(run)


def _refuse_knowing(run: RunDirectory) -> None:
    known = [f"{key}: {value}" for key, value in run.config.chosen_by_score.items()]
    if run.inflated or known:
        raise UserError(
            f"the weights of {run.path} know the tiles that would be validated on "
            f"({run.inflated or ', '.join(known)}): take another run"
        )


def start_weights(run: RunDirectory, fold: int) -> Path:
    """The weights that a fold begins with: the run's averaged ones, or its newest snapshot."""
    return voters_of(run, fold)[-1][0]
