"""The best trial of a study, and its recipe in a form that any command takes."""

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.files import write_text
from semisalt.recipe import dump_config
from semisalt.run import RunDirectory
from semisalt.studies.directory import StudyDirectory


def best_trial(study: optuna.study.Study, path: Path) -> FrozenTrial:
    """The finished trial with the highest score, the earliest of equals; the score is always the first objective.

    Raises UserError while none is finished.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        trials = study.get_trials(deepcopy=False)
        ended = [trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs]
        last = f" ({len(ended)} came to nothing, the last one: {ended[-1]})" if ended else ""
        raise UserError(f"{path}: no trial has a score yet{last}; see semisalt study status {path}")
    return max(finished, key=lambda trial: (trial.values[0], -trial.number))


def write_best(directory: StudyDirectory, trial: FrozenTrial) -> Path:
    """Write a trial's recipe to STUDY/best.yaml, headed by the command that repeats it; returns the path."""
    request, path = directory.request, directory.path / "best.yaml"
    if request.level == "threshold":
        config = searched_recipe(RunDirectory.open(Path(str(request.run))).config, trial)
        lines = [f"Of the run {request.run}, predicted with the best of {directory.path}."]
    else:
        run = RunDirectory.open(directory.path / trial.user_attrs["run"])
        config = run.config
        folds = ",".join(map(str, request.wanted_folds))
        lines = [
            f"Trial {trial.number} of {directory.path}. Repeated to the bit, on a CPU:",
            f"  OMP_NUM_THREADS={run.provenance['threads']} semisalt {config.command} --config {path} --data "
            f"{request.data['path']} --folds {folds} --run NAME",
            "For a model that learns from the holdout, too: --set data.holdout=0",
        ]
    write_text(path, "".join(f"# {line}\n" for line in lines) + dump_config(config))
    return path


def searched_recipe(config: Config, trial: FrozenTrial) -> Config:
    """A run's recipe with what a study of level threshold found: it predicts so, at this operating point.

    Cuts of pseudo-labels that need mirrored or several predictions are left out where it makes none.
    """
    point = trial.user_attrs["operating"]
    tree = config.model_dump()
    tree["inference"] |= {
        "thresholds": (point["threshold"],),
        "min_salts": (point["min_salt"],),
        "min_holes": (point["min_hole"],),
    }
    for key, value in trial.params.items():
        section, dot, name = key.partition(".")
        if dot:
            tree[section][name] = value
    if any(key.startswith("snapshots.") for key in trial.params):
        tree["snapshots"]["combine"] = "predictions"
    if not tree["inference"]["flip"]:
        tree["pseudo"]["mirrored"] = 0
    if tree["snapshots"]["keep"] < 2:
        tree["pseudo"]["stability"] = 0
    return Config.model_validate(tree)
