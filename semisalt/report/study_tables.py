"""The tables and sentences of a study's report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from semisalt.metrics import Interval
from semisalt.report.study_trials import ENDINGS, Objective, completed, ending, endings, short
from semisalt.studies.directory import StudyDirectory

_SOUND = ("completed", "running", "waiting")


@dataclass(frozen=True)
class Table:
    """A table of text: `[columns]` headings over rows of as many cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def facts(directory: StudyDirectory, study: Study) -> list[tuple[str, str]]:
    """What the study is, name and text."""
    request, counts = directory.request, endings(study)
    trained = request.level == "training"
    data = dict(request.data)
    fingerprint = str(data.pop("fingerprint", ""))[:12]
    trials = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    seconds = sum(trial.user_attrs.get("seconds", 0) for trial in study.get_trials(deepcopy=False))
    lines = {
        "searched": "keys of the recipe, by training" if trained else "what follows a run's probabilities",
        "objectives": ", ".join(request.objectives),
        "trials": f"{sum(counts.values())}: {trials}",
        "time": _hours(seconds),
        "pruner": "" if request.pruner.kind == "none" else short(request.pruner.model_dump()).removeprefix("kind "),
        "run read": request.run,
        "folds": ("all" if request.folds is None else ", ".join(map(str, request.folds))) if trained else "",
        "holdout": f"{request.holdout:.0%} of the {'labelled' if trained else 'out-of-fold'} tiles",
        "seed": str(request.seed),
        "data": ", ".join(
            [*(f"{key.replace('_', ' ')} {short(value)}" for key, value in data.items()), f"fingerprint {fingerprint}"]
        ),
    }
    return [(name, text) for name, text in lines.items() if text]


def unfinished(study: Study) -> Table:
    """Every trial that ended early or badly, with its reason."""
    again = {trial.user_attrs.get("retry_of"): trial.number for trial in study.get_trials(deepcopy=False)}
    rows = [
        (str(trial.number), ending(trial), _reason(trial, again), _last(trial), _described(trial))
        for trial in sorted(study.get_trials(deepcopy=False), key=lambda t: (ENDINGS.index(ending(t)), t.number))
        if ending(trial) not in _SOUND
    ]
    return Table(("trial", "ended", "reason", "last score", "values"), rows)


def best_table(trial: FrozenTrial, recipe: Mapping[str, Any]) -> Table:
    """The keys of a trial with the base recipe's values beside, if there is one, and where its score was taken."""
    rows = [(key, short(value), short(_at(recipe, key))) for key, value in trial.params.items()]
    chosen = trial.user_attrs.get("operating", {})
    rows += [(f"{key} (chosen for the trial)", short(chosen[key]), "") for key in chosen if key not in trial.params]
    header = ("key", f"trial {trial.number}", "base recipe")
    return Table(header, rows) if recipe else Table(header[:2], [row[:2] for row in rows])


def ranking(study: Study, shown: Sequence[Objective], only: Iterable[int] | None = None) -> Table:
    """Completed trials by the leading objective, the best first; `only` trials of these numbers."""
    trials = sorted(completed(study), key=lambda trial: (shown[0].cost(trial), trial.number))
    chosen = [trial for trial in trials if only is None or trial.number in only]
    rows = [
        (str(trial.number), *(_reached(each, trial) for each in shown), _seconds(trial), _described(trial))
        for trial in chosen
    ]
    names = {"score": "score, 95 % interval"}
    return Table(("trial", *(names.get(each.name, each.name) for each in shown), "time", "values"), rows)


def space_table(directory: StudyDirectory) -> Table:
    """What each key could be, and when it was asked for."""
    rows = []
    for key, asked in directory.request.space.items():
        given = asked.model_dump(exclude_none=True, mode="json")
        kind, when = given.pop("kind"), given.pop("when", "")
        values = given.pop("choices", None)
        bounds = " | ".join(map(short, values)) if values else f"{short(given.pop('low'))} … {short(given.pop('high'))}"
        extra = ", ".join(
            "log" if name == "log" else f"{name} {short(value)}" for name, value in given.items() if value
        )
        rows.append((key, f"{kind}, {extra}" if extra else kind, bounds, _condition(when)))
    return Table(("key", "kind", "values", "when"), rows)


def holdout_table(holdout: Mapping[str, Any], default: str) -> Table:
    """Search and holdout scores side by side, and the paired difference from what `default` names."""
    halves, best = holdout["at_half"], f"best (trial {holdout['best_trial']})"
    half = Interval(**halves["difference"]).signed if "difference" in halves else ""
    rows = [
        (f"{best}, in the search", str(Interval(**holdout["search_score"])), ""),
        (f"{best}, on the holdout", str(Interval(**holdout["best"])), str(Interval(**halves["best"]))),
        (f"{default}, on the holdout", str(Interval(**holdout["default"])), str(Interval(**halves["default"]))),
        ("difference, paired, on the holdout", Interval(**holdout["difference"]).signed, half),
    ]
    return Table(("", "score, 95 % interval", "at 0.5"), rows)


def verdict(holdout: Mapping[str, Any], default: str) -> str:
    """What the holdout says of the found configuration against what `default` names, in a sentence."""
    difference = Interval(**holdout["difference"])
    if difference.low > 0:
        return f"On the holdout the found configuration beats the {default} by {difference.signed}."
    if difference.high < 0:
        return f"On the holdout the found configuration is worse than the {default}: {difference.signed}."
    return f"The holdout does not tell the found configuration from the {default}: {difference.signed} includes zero."


def _hours(seconds: float) -> str:
    """The time in trials; empty where none was noted."""
    if not seconds:
        return ""
    return f"{seconds / 3600:.1f} h in trials" if seconds >= 3600 else f"{seconds / 60:.1f} min in trials"


def _condition(when: Mapping[str, Sequence[Any]]) -> str:
    return ", ".join(f"{key} is {' or '.join(map(short, values))}" for key, values in when.items())


def _reason(trial: FrozenTrial, again: Mapping[int | None, int]) -> str:
    reason = str(trial.user_attrs.get("reason", "no reason noted")).removeprefix(f"{ending(trial)}: ")
    return f"{reason}; tried again as trial {again[trial.number]}" if trial.number in again else reason


def _last(trial: FrozenTrial) -> str:
    values = trial.intermediate_values
    return f"{values[max(values)]:.4f} after {max(values)}" if values else ""


def _described(trial: FrozenTrial) -> str:
    return "; ".join(f"{key}: {short(value)}" for key, value in trial.params.items())


def _reached(objective: Objective, trial: FrozenTrial) -> str:
    score = trial.user_attrs.get("score")
    return str(Interval(**score)) if objective.name == "score" and score else short(objective.of(trial))


def _seconds(trial: FrozenTrial) -> str:
    seconds = trial.user_attrs.get("seconds")
    return "" if seconds is None else f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _at(recipe: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; a dash where the recipe has none."""
    value: Any = recipe
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return "–"
        value = value[part]
    return value
