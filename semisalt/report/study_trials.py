"""What a study's report asks of its trials: how they ended, what they reached, what they tried."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

ENDINGS = ("completed", "pruned", "NaN", "failed", "killed", "running", "waiting")

_OF_STATE = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_OF_FAILURE = {"nan": "NaN", "killed": "killed"}


@dataclass(frozen=True)
class Objective:
    """One of a study's objectives: its name, its place among a trial's values, and whether more is better."""

    name: str
    index: int
    maximised: bool

    def of(self, trial: FrozenTrial) -> float:
        """What a completed trial reached."""
        return float(trial.values[self.index])

    def cost(self, trial: FrozenTrial) -> float:
        """The same, but lower is better."""
        return -self.of(trial) if self.maximised else self.of(trial)


def objectives(study: Study, names: Sequence[str]) -> list[Objective]:
    """A study's objectives; the report is led by the first one, which is always the score."""
    return [
        Objective(name, index, direction is StudyDirection.MAXIMIZE)
        for index, (name, direction) in enumerate(zip(names, study.directions, strict=True))
    ]


def ending(trial: FrozenTrial) -> str:
    """How a trial ended, one of ENDINGS; a failure without a note of its kind is 'failed'."""
    if trial.state is TrialState.FAIL:
        return _OF_FAILURE.get(trial.user_attrs.get("ending", ""), "failed")
    return _OF_STATE[trial.state]


def endings(study: Study) -> dict[str, int]:
    """How many trials ended in each way, in the order of ENDINGS; ways that none took are left out."""
    counts = Counter(ending(trial) for trial in study.get_trials(deepcopy=False))
    return {name: counts[name] for name in ENDINGS if counts[name]}


def completed(study: Study) -> list[FrozenTrial]:
    """The completed trials whose values are all finite, by number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if all(map(math.isfinite, trial.values))]


def best_trial(study: Study, lead: Objective) -> FrozenTrial | None:
    """The completed trial that is best by one objective, the earliest of equals; None while there is none."""
    return min(completed(study), key=lead.cost, default=None)


def parameters(trials: Sequence[FrozenTrial]) -> list[str]:
    """Every key that any of the trials tried, in the order in which they appear."""
    return list(dict.fromkeys(key for trial in trials for key in trial.params))


def varied(trials: Sequence[FrozenTrial]) -> list[str]:
    """The keys that had two values or more."""
    return [key for key in parameters(trials) if len({repr(t.params[key]) for t in trials if key in t.params}) > 1]


def short(value: Any) -> str:
    """A value as a person reads it: four digits of a float, true and false as in YAML, a table's keys with values."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        value = json.loads(value)  # as the study keeps a choice that is a table or a list
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1000:
        return f"{value:,.0f}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(short, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {short(part)}" for key, part in value.items())
    return "none" if value is None else str(value)


def label(value: Any, length: int = 20) -> str:
    """A value as a label on an axis: a line for each part of a table, long lines cut."""
    lines = short(value).split(", ")
    return "<br>".join(line if len(line) <= length else f"{line[: length - 1]}…" for line in lines)


def described(trial: FrozenTrial, shown: Sequence[Objective]) -> str:
    """A trial's number, values and parameters for the label that follows the pointer."""
    lines = [f"trial {trial.number}", *(f"{each.name}: {short(each.of(trial))}" for each in shown)]
    return "<br>".join(lines + [f"{key}: {short(value)}" for key, value in trial.params.items()])
