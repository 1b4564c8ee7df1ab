"""Studies made by hand, without training: trials that ended in every way, and a directory that looks like one."""

import json

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from semisalt.files import write_json
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.request import StudyRequest, write_request
from semisalt.studies.space import encode

MIXES = [{"bce": 0.1, "lovasz_hinge": 0.9}, {"bce": 0.1, "lovasz_symmetric": 0.9}]
SPACE = {
    "loss.finish": CategoricalDistribution(list(map(encode, MIXES))),
    "loss.bce": FloatDistribution(0.0, 1.0),
    "schedule.max_lr": FloatDistribution(1e-4, 1e-2, log=True),
    "schedule.kind": CategoricalDistribution(["triangular", "triangular2", "cosine"]),
    "schedule.step_size": IntDistribution(100, 900, step=100),
    "model.hypercolumn": CategoricalDistribution([True, False]),
}
RECIPE = {
    "loss": {"bce": 0.1, "finish": MIXES[0]},
    "schedule": {"max_lr": 3e-4, "kind": "triangular2", "step_size": 500},
    "model": {"hypercolumn": True},
}


def interval(value, width=0.02):
    return {"value": value, "low": value - width, "high": value + width}


ASKED = {
    "loss.finish": {"kind": "categorical", "choices": MIXES},
    "loss.bce": {"kind": "float", "low": 0, "high": 1},
    "schedule.max_lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "schedule.kind": {"kind": "categorical", "choices": ["triangular", "triangular2", "cosine"]},
    "schedule.step_size": {
        "kind": "int", "low": 100, "high": 900, "step": 100, "when": {"schedule.kind": ["triangular", "triangular2"]}
    },
    "model.hypercolumn": {"kind": "categorical", "choices": [True, False]},
}  # fmt: skip
POINTS = {
    "threshold": FloatDistribution(0.25, 0.75),
    "min_salt": IntDistribution(0, 200),
    "inference.flip": CategoricalDistribution([True, False]),
}
ASKED_POINTS = {
    "threshold": {"kind": "float", "low": 0.25, "high": 0.75},
    "min_salt": {"kind": "int", "low": 0, "high": 200},
    "inference.flip": {"kind": "categorical", "choices": [True, False]},
}


def directory_of(path, objectives=("score",), level="training", holdout=None, share=0.1):
    """A study's directory as `semisalt study run` begins it, judged on its holdout where that is given."""
    request = StudyRequest(
        name=path.name,
        level=level,
        seed=3,
        holdout=share,
        folds=(0, 1) if level == "training" else None,
        objectives=objectives,
        space=ASKED if level == "training" else ASKED_POINTS,
        recipe=RECIPE if level == "training" else {},
        data={"path": "tiles", "fingerprint": "f" * 64, "labelled": 400, "holdout_tiles": 40},
        run=None if level == "training" else "runs/cpu",
    )
    write_request(path / "study.yaml", request)
    if holdout is not None:
        write_json(path / "holdout.json", holdout)
    return StudyDirectory.open(path)


def params_of(number):
    """What trial `number` tried; the step size only where the kind is not cosine."""
    kind = ("triangular", "triangular2", "cosine")[number % 3]
    params = {
        "loss.finish": encode(MIXES[number // 2 % 2]),
        "loss.bce": number * 7 % 11 / 10,
        "schedule.max_lr": 1e-4 * 10 ** (number * 5 % 13 / 6.5),
        "schedule.kind": kind,
        "model.hypercolumn": number % 2 == 0,
    }
    return params if kind == "cosine" else {**params, "schedule.step_size": 100 + number * 300 % 900}


def score_of(number):
    """A score that loss.bce decides, and nothing else does by much."""
    return round(0.8 - 0.2 * abs(params_of(number)["loss.bce"] - 0.6) + 0.001 * (number % 5), 6)


def add_completed(study, number, values=None, params=None):
    params = params_of(number) if params is None else params
    score = score_of(number)
    study.add_trial(
        create_trial(
            values=[score] if values is None else values,
            params=params,
            distributions={key: SPACE[key] for key in params},
            user_attrs={
                "run": f"trial{len(study.trials):04}", "seconds": 61.5 + number, "parameters": 1234567, "folds": [0, 1],
                "score": interval(score), "at_half": score - 0.01,
                "operating": {"threshold": 0.42, "min_salt": 20, "min_hole": 0},
            },
            intermediate_values={step: score - 0.3 / step for step in range(1, 5)},
        )
    )  # fmt: skip


def add_ended(study, number, state, end, reason, steps=2):
    params = params_of(number)
    study.add_trial(
        create_trial(
            state=state,
            params=params,
            distributions={key: SPACE[key] for key in params},
            user_attrs={"ending": end, "reason": reason, "seconds": 9.0},
            intermediate_values={step: 0.3 + 0.01 * number * step for step in range(1, steps + 1)},
        )
    )


def new_study(*directions):
    return optuna.create_study(directions=directions or ("maximize",))


def full_study():
    """Ten completed trials (0 … 9), then two pruned ones, one of each failure, and one that still runs (10 … 15)."""
    study = new_study()
    for number in range(10):
        add_completed(study, number)
    add_ended(study, 10, TrialState.PRUNED, "pruned", "pruned: epoch 2 of fold 0 is worse than the median")
    add_ended(study, 11, TrialState.PRUNED, "pruned", "pruned: fold 0 ended at .41")
    add_ended(study, 12, TrialState.FAIL, "nan", "NaN: the loss was not finite in step 17")
    add_ended(study, 13, TrialState.FAIL, "failed", "failed: out of memory </script><b>x</b>", steps=0)
    add_ended(study, 14, TrialState.FAIL, "killed", "killed: no heartbeat for 120 s", steps=1)
    study.ask(SPACE)
    return study


def threshold_study(count=12):
    """Points of a finished run: nothing was trained, and no trial has a run of its own."""
    study = new_study()
    for number in range(count):
        params = {"threshold": 0.3 + 0.03 * number, "min_salt": number * 70 % 200, "inference.flip": number % 2 == 0}
        score = round(0.8 - (params["threshold"] - 0.42) ** 2, 6)
        noted = {"score": interval(score), "operating": {**params, "min_hole": 0}}
        del noted["operating"]["inference.flip"]
        study.add_trial(create_trial(value=score, params=params, distributions=POINTS, user_attrs=noted))
    return study


def best_run(path):
    """A trial's run directory, as far as the page reads it."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("{}\n")
    thresholds = [round(0.2 + 0.02 * step, 2) for step in range(31)]
    results = {
        "curve": {"thresholds": thresholds, "precision": [0.79 - (t - 0.42) ** 2 for t in thresholds]},
        "operating": {"threshold": 0.42, "min_salt": 20, "min_hole": 0},
        "chosen": {"precision": interval(0.79)},
        "at_half": {"precision": interval(0.78)},
    }
    (path / "results.json").write_text(json.dumps(results))


def holdout_of(best, difference=0.018):
    """A holdout.json whose difference has an interval of ± .01."""
    return {
        "tiles": 40, "default": interval(0.74), "best": interval(0.74 + difference),
        "difference": interval(difference, 0.01), "best_trial": best, "search_score": interval(0.802),
        "at_half": {"default": interval(0.73), "best": interval(0.75)},
    }  # fmt: skip
