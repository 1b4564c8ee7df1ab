"""A study's tables for the terminal: how far it is, its best trial, and the last judgement."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group
from rich.table import Table
from rich.text import Text

from semisalt.data.tiles import Survey
from semisalt.metrics import Interval
from semisalt.report.finish import report_run
from semisalt.report.plain import plain_table
from semisalt.report.study_board import log_trial
from semisalt.report.study_trials import endings
from semisalt.run import RunDirectory
from semisalt.studies.claims import standing
from semisalt.studies.space import Choice


def status_table(study: optuna.study.Study, silence: Mapping[int, float]) -> Group:
    """Trials by state, to the total; the best so far; who runs, and when he was last heard of.

    Args:
        study: its trials.
        silence: seconds since each running trial's last sign of life, by number.
    """
    trials = study.get_trials(deepcopy=False)
    counted = standing(trials)
    begun = sum(trial.state is not TrialState.WAITING for trial in counted)
    head = f"{study.study_name}: {begun} of {study.user_attrs.get('trials', '?')} trials begun"
    table = plain_table((), title="Trials")
    for name in ("state", "trials"):
        table.add_column(name, justify="right" if name == "trials" else "left")
    for name, count in endings(study).items():
        table.add_row(name, str(count))
    parts: list[Table | Text] = [Text(head, style="bold"), table]
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if done:
        best = max(done, key=lambda trial: (trial.values[0], -trial.number))
        parts += [Text(), Text(f"best so far: trial {best.number}, score {_score(best)}")]
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    if running:
        parts.append(_running_table(running, silence))
    return Group(*parts)


def best_table(trial: FrozenTrial, result: Mapping[str, Any] | None = None) -> Table:
    """The best trial's figures and values; `result`, its last judgement, has the bootstrap's interval of its score.

    A trial of level threshold is scored in milliseconds, and its own interval a normal approximation.
    """
    table = plain_table((), title=f"Trial {trial.number}: the best of those finished, and flattered by that choice")
    table.add_column("key", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_row("score", str(Interval(**result["search_score"])) if result else _score(trial))
    for name in ("at_half", "seconds", "parameters", "operating", "run"):
        if name in trial.user_attrs:
            value = trial.user_attrs[name]
            if isinstance(value, dict):
                value = ", ".join(f"{key} {part:.4g}" for key, part in value.items())
            label = "at 0.5" if name == "at_half" else name
            table.add_row(label, f"{value:.4g}" if isinstance(value, float) else str(value))
    for key, value in trial.params.items():
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def holdout_table(result: Mapping[str, Any]) -> Group:
    """The last judgement: search score beside the score on tiles that the search never saw."""
    table = plain_table((), title=f"On {result['tiles']} tiles that the search never saw")
    table.add_column("", no_wrap=True)
    table.add_column("own point", no_wrap=True)
    table.add_column("at 0.5", no_wrap=True)
    for name in ("default", "best"):
        if name in result:
            table.add_row(name, str(Interval(**result[name])), str(Interval(**result["at_half"][name])))
    halves = result["at_half"].get("difference")
    table.add_row("difference", Interval(**result["difference"]).signed, Interval(**halves).signed if halves else "")
    searched = Interval(**result["search_score"])
    flattery = f"the best trial's own score, on the tiles that chose it: {searched} (flattering)"
    return Group(table, Text(), Text(flattery))


def _running_table(running: list[FrozenTrial], silence: Mapping[int, float]) -> Table:
    table = plain_table(("trial", "heard of, s ago"), title="Running")
    for name in ("on", "epochs", "score"):
        table.add_column(name, no_wrap=True)
    for trial in running:
        step = trial.last_step
        last = f"{trial.intermediate_values[step]:.4f}" if step is not None else ""
        age = silence.get(trial.number)
        heard = "never" if age is None else f"{age:.0f}"
        table.add_row(str(trial.number), heard, trial.user_attrs.get("worker", "?"), str(step or 0), last)
    return table


def _score(trial: FrozenTrial) -> str:
    score = trial.user_attrs.get("score")
    return str(Interval(**score)) if score else f"{trial.values[0]:.4f}"


def report_trial(
    run: RunDirectory, survey: Survey, searched: Mapping[str, Choice], figures: Mapping[str, float]
) -> None:
    """A trial's pictures and curves as of any run, and its row among the study's."""
    with run.lock():
        report_run(run, survey.labelled)
        log_trial(run.path, searched, figures)
