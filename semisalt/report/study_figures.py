"""The figures of a study's report: what was reached when, and which keys it hung on. They need no WebGL.

Each function gives None where there is nothing to draw yet.
"""

import math
import warnings
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.visualization import plot_contour, plot_slice

from semisalt.report.figures import FAINT, INK, MARKS
from semisalt.report.study_trials import Objective, completed, described, ending, label, varied

Figure = Any  # plotly has no types of its own

ROW = 3  # slices in a row
FEWEST = 4  # completed trials that importances are computed from
BLUE, ORANGE, GREEN = (f"rgb{mark}" for mark in MARKS)
DARK, PALE = f"rgb{INK}", f"rgb{FAINT}"
LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
_COLOR = {"completed": BLUE, "pruned": "rgb(150,150,150)", "running": GREEN}


def finished(figure: Figure, height: int = 380, **layout: Any) -> Figure:
    """The report's look: white, without a title of its own (the page has headings)."""
    plain = {"template": "plotly_white", "title": None, "height": height, "font": {"color": DARK, "size": 13}}
    figure.update_layout(**plain, margin={"l": 70, "r": 20, "t": 30, "b": 50})
    figure.update_layout(**layout)
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(exponentformat="SI", zeroline=False)
        update(exponentformat="power", selector={"type": "log"})
    return figure


def history(study: Study, objective: Objective) -> Figure | None:
    """What each completed trial reached, with its 95 % interval where it is known, and the best so far."""
    trials = completed(study)
    if not trials:
        return None
    numbers, values = [trial.number for trial in trials], [objective.of(trial) for trial in trials]
    best = np.maximum.accumulate(values) if objective.maximised else np.minimum.accumulate(values)
    figure = go.Figure()
    figure.add_scatter(
        x=numbers,
        y=values,
        mode="markers",
        name="a trial, with its 95 % interval" if objective.name == "score" else "a trial",
        marker={"color": BLUE, "size": 8},
        error_y=_intervals(trials, values) if objective.name == "score" else None,
        hovertext=[described(trial, [objective]) for trial in trials],
        hoverinfo="text",
    )
    line = {"color": ORANGE, "width": 2, "shape": "hv"}
    markers = "lines" if len(trials) > 1 else "lines+markers"
    figure.add_scatter(x=numbers, y=best.tolist(), mode=markers, name="best so far", line=line)
    figure.update_xaxes(title="trial", range=[-0.5, max(numbers) + 0.5], **_whole(max(numbers)))
    figure.update_yaxes(title=objective.name)
    return finished(figure, legend=LEGEND_ABOVE)


def courses(study: Study) -> Figure | None:
    """The score that each trial had on its way, by which it was pruned or went on."""
    figure, named = go.Figure(), set[str]()
    for trial in study.get_trials(deepcopy=False):
        points = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
        if not points:
            continue
        name = ending(trial)
        color = _COLOR.get(name, ORANGE)
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[value for _, value in points],
            mode="lines+markers",
            line={"color": color, "width": 1.2},
            marker={"size": 4},
            opacity=0.6,
            name=name if name in _COLOR else "failed or killed",
            legendgroup=color,
            showlegend=color not in named,
            hovertemplate=f"trial {trial.number}, {name}<br>after %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        named.add(color)
    if not named:
        return None
    longest = max(max(trace.x) for trace in figure.data)
    figure.update_xaxes(title="epochs trained, all folds one after the other", **_whole(longest))
    figure.update_yaxes(title="validation score on the way")
    return finished(figure, legend=LEGEND_ABOVE)


def importance_of(study: Study, objective: Objective) -> dict[str, float]:
    """The share of each varied key in reaching the best tenth by one objective (PED-ANOVA), the largest first.

    Empty for fewer than FEWEST completed trials or where no key was varied.
    """
    keys = varied(completed(study))
    if len(completed(study)) < FEWEST or not keys:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a target is minimised, whatever the study's direction: hence the cost
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=keys, target=objective.cost)


def importances(shares: Mapping[str, Mapping[str, float]]) -> Figure | None:
    """Bars of importances, objective → key → share; the keys in the order of the first objective."""
    if not any(shares.values()):
        return None
    figure = go.Figure()
    keys = list(next(iter(shares.values())))
    for (name, share), color in zip(shares.items(), (BLUE, ORANGE, GREEN), strict=False):
        values = [share[key] for key in keys]
        text = [f"{value:.2f}" for value in values]
        figure.add_bar(
            x=values, y=keys, name=name, orientation="h", text=text, marker={"color": color}, cliponaxis=False
        )
    figure.update_traces(textposition="outside", hovertemplate="%{y}: %{x:.3f}<extra></extra>")
    figure.update_xaxes(title="share in reaching the best tenth")
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=6)
    height = 100 + len(keys) * (14 + 16 * len(shares))
    return finished(figure, max(200, height), showlegend=len(shares) > 1, legend=LEGEND_ABOVE)


def slices(study: Study, objective: Objective) -> list[Figure]:
    """What completed trials reached over the values of each varied key, three keys a figure."""
    trials = completed(study)
    keys = sorted(varied(trials))
    figures = []
    for start in range(0, len(keys), ROW):
        part = keys[start : start + ROW]
        figure = plot_slice(study, part, target=objective.of, target_name=objective.name)
        figure.update_traces(marker={"size": 8, "colorbar": {"title": {"text": "trial"}, "xpad": 10}})
        figure.for_each_xaxis(lambda axis: _name_choices(axis, axis.categoryarray, literal_eval))
        figures.append(finished(figure, 320, width=None))
    return figures


def contour(study: Study, objective: Objective, ranked: Sequence[str]) -> Figure | None:
    """The objective over the two most important of `ranked` that trials tried together."""
    trials = completed(study)
    for second in range(1, len(ranked)):
        for first in range(second):
            pair = [ranked[first], ranked[second]]
            both = [trial for trial in trials if all(key in trial.params for key in pair)]
            if len(both) >= FEWEST and set(pair) <= set(varied(both)):
                figure = plot_contour(study, pair, target=objective.of, target_name=objective.name)
                better = "Blues" if objective.maximised else "Blues_r"
                figure.update_traces(colorscale=better, reversescale=False, selector={"type": "contour"})
                surface = figure.data[0]
                for axis, values in ((figure.layout.xaxis, surface.x), (figure.layout.yaxis, surface.y)):
                    if axis.type == "category":
                        surface.line.smoothing = 0  # the curves would leave the picture
                        _name_choices(axis, values, _choice)
                return finished(figure, 480)
    return None


def _intervals(trials: Sequence[FrozenTrial], values: Sequence[float]) -> dict[str, Any] | None:
    scores = [trial.user_attrs.get("score") for trial in trials]
    up, down = (
        [abs(score[end] - value) if score else 0 for score, value in zip(scores, values, strict=True)]
        for end in ("high", "low")
    )
    return {"type": "data", "array": up, "arrayminus": down, "color": PALE, "thickness": 1.5, "width": 0}


def _whole(largest: int) -> dict[str, Any]:
    """Ticks at whole numbers only, also on a short axis."""
    return {"dtick": 1} if largest <= 10 else {}


def _choice(text: str) -> Any:
    """What `str` made text of, as far as it reads otherwise in YAML."""
    return {"True": True, "False": False, "None": None}.get(text, text)


def _name_choices(axis: Any, shown: Sequence[str] | None, value_of: Callable[..., Any]) -> None:
    """Optuna labels choices as Python writes them: as in YAML here, and long ones cut."""
    if axis.type == "category" and shown is not None:
        axis.update(tickvals=shown, ticktext=[label(value_of(text)) for text in shown])
