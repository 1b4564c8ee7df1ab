"""Parallel coordinates of a study's completed trials, with keys that only some trials have, without WebGL."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from semisalt.report.study_figures import DARK, ORANGE, Figure, finished
from semisalt.report.study_trials import Objective, completed, described, label, parameters, short

_LABEL = {
    "showarrow": False, "xanchor": "left", "align": "left", "xshift": 5, "font": {"size": 11},
    "bgcolor": "rgba(255,255,255,.9)",
}  # fmt: skip
_NOT_SET = -0.13  # height of 'not set' on an axis that runs from 0 to 1

Axis = tuple[str, Callable[[FrozenTrial], float], list[tuple[float, str]]]


def parallel(study: Study, objective: Objective, ranked: Sequence[str]) -> Figure | None:
    """A line for each completed trial over an axis for each key and one for the objective; darker is better.

    A key that a condition left out of a trial is met below its axis at 'not set'. These are plain lines: plotly's own
    parallel coordinates need WebGL, and Optuna's leave out every trial that lacks a key.
    """
    # The best comes last, the earliest of equals: that is whom every table calls the best.
    trials = sorted(completed(study), key=lambda trial: (objective.cost(trial), trial.number), reverse=True)
    keys = [*ranked, *(key for key in parameters(trials) if key not in ranked)]
    if not trials or not keys:
        return None
    axes = [_axis(key, trials) for key in keys] + [_values_axis(objective, trials)]
    figure, count = go.Figure(), len(trials)
    for rank, trial in enumerate(trials, start=1):
        best = rank == count
        # Of hundreds only the best few tenths are to be seen; of ten, all.
        opacity = min(0.12, 12 / count) + 0.6 * (rank / count) ** (2 + count / 20)
        color = ORANGE if best else f"rgba(0,114,178,{opacity:.2f})"
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[place(trial) for _, place, _ in axes],
            mode="lines+markers",
            line={"color": color, "width": 3 if best else 1.5},
            marker={"size": 5},
            hovertext=described(trial, [objective]),
            hoverinfo="text",
        )
    _draw(figure, axes)
    margin = {"l": 30, "r": 20, "t": 30, "b": 5}
    # The buttons stand below each other, clear of the axes' names.
    buttons = {"orientation": "v"}
    return finished(figure, 440, showlegend=False, hovermode="closest", margin=margin, modebar=buttons)


def _draw(figure: Figure, axes: Sequence[Axis]) -> None:
    for at, (_, _, labels) in enumerate(axes):
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, line={"color": DARK, "width": 1}, layer="below")
        for height, text in labels:
            figure.add_annotation(x=at, y=height, text=text, **_LABEL)
    names = [name.replace(".", ".<br>") for name, _, _ in axes]  # a dotted key is wider than the gap to the next axis
    places = {"tickvals": list(range(len(axes))), "ticktext": names, "range": [-0.2, len(axes) - 0.4]}
    figure.update_xaxes(**places, side="top", showgrid=False, zeroline=False, automargin=True)
    figure.update_yaxes(visible=False, range=[-0.2, 1.08])


def _axis(key: str, trials: Sequence[FrozenTrial]) -> Axis:
    """A key's axis: its name, the height of a trial on it, and its labels."""
    distribution = next(trial.distributions[key] for trial in trials if key in trial.distributions)
    absent = [(_NOT_SET, "not set")] if any(key not in trial.params for trial in trials) else []
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        heights = [(at + 0.5) / len(choices) for at in range(len(choices))]
        labels = list(zip(heights, map(label, choices), strict=True))
        return key, _placed(key, lambda value: heights[choices.index(value)]), labels + absent
    bounds = (float(distribution.low), float(distribution.high))  # type: ignore[attr-defined]
    scale = math.log if distribution.log else float  # type: ignore[attr-defined]
    low, high = map(scale, bounds)
    labels = [(0.0, short(distribution.low)), (1.0, short(distribution.high))]  # type: ignore[attr-defined]
    return key, _placed(key, lambda value: (scale(value) - low) / (high - low) if high > low else 0.5), labels + absent


def _placed(key: str, height: Callable[[Any], float]) -> Callable[[FrozenTrial], float]:
    return lambda trial: height(trial.params[key]) if key in trial.params else _NOT_SET


def _values_axis(objective: Objective, trials: Sequence[FrozenTrial]) -> Axis:
    values = [objective.of(trial) for trial in trials]
    low, high = min(values), max(values)
    labels = [(0.0, short(low)), (1.0, short(high))] if high > low else [(0.5, short(low))]
    return objective.name, lambda t: (objective.of(t) - low) / (high - low) if high > low else 0.5, labels
