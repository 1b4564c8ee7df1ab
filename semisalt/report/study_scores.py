"""The figures of a study's report that compare: objectives with each other, search with holdout, thresholds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import plotly.graph_objects as go
from optuna.study import Study

from semisalt.report.figures import MARKS
from semisalt.report.study_figures import BLUE, GREEN, LEGEND_ABOVE, ORANGE, Figure, finished
from semisalt.report.study_trials import Objective, completed, described


def pareto(study: Study, shown: Sequence[Objective]) -> list[Figure]:
    """Every pair of objectives against each other; trials that no other beats in all objectives are marked."""
    trials = completed(study)
    front = {trial.number for trial in study.best_trials}
    figures = []
    for one, other in combinations(shown, 2) if trials else ():
        figure = go.Figure()
        for name, color, size, best in (
            ("beaten by another", "rgb(170,170,170)", 8, False),
            ("front", ORANGE, 11, True),
        ):
            part = [trial for trial in trials if (trial.number in front) is best]
            figure.add_scatter(
                x=[other.of(trial) for trial in part],
                y=[one.of(trial) for trial in part],
                mode="markers+text" if best else "markers",
                name=name,
                marker={"color": color, "size": size},
                text=[str(trial.number) for trial in part] if best else None,
                textposition="top right",
                hovertext=[described(trial, shown) for trial in part],
                hoverinfo="text",
            )
        figure.update_xaxes(title=_directed(other))
        figure.update_yaxes(title=_directed(one))
        figures.append(finished(figure, legend=LEGEND_ABOVE))
    return figures


def search_and_holdout(holdout: Mapping[str, Any], default: str) -> Figure:
    """The scores of a holdout.json with their 95 % intervals, below each other; `default` names the rival."""
    lines = {
        "best, in the search": (holdout["search_score"], ORANGE),
        "best, on the holdout": (holdout["best"], BLUE),
        f"{default}, on the holdout": (holdout["default"], GREEN),
    }
    figure = go.Figure()
    for name, (score, color) in lines.items():
        value = score["value"]
        figure.add_scatter(
            x=[value],
            y=[name],
            mode="markers",
            marker={"size": 12, "color": color},
            error_x={"type": "data", "array": [score["high"] - value], "arrayminus": [value - score["low"]]},
            hovertemplate=f"{value:.4f} [{score['low']:.4f}, {score['high']:.4f}]<extra></extra>",
        )
    figure.update_xaxes(title="score, with 95 % intervals over tiles")
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=6)
    return finished(figure, 240, showlegend=False)


def threshold_curve(results: Mapping[str, Any]) -> Figure:
    """Score over the threshold of a run's results.json, with the chosen point and the plain 0.5 marked."""
    curve, chosen = results["curve"], results["operating"]["threshold"]
    figure = go.Figure()
    line = {"color": f"rgb{MARKS[0]}", "width": 2}
    sizes = "at the chosen component sizes"
    figure.add_scatter(x=curve["thresholds"], y=curve["precision"], mode="lines+markers", name=sizes, line=line)
    marks = {
        "chosen": (chosen, results["chosen"]["precision"]["value"], ORANGE),
        "0.5, nothing dropped": (0.5, results["at_half"]["precision"]["value"], GREEN),
    }
    for name, (threshold, score, color) in marks.items():
        point = {"x": [threshold], "y": [score], "mode": "markers", "marker": {"size": 13, "color": color}}
        figure.add_scatter(**point, name=f"{name}: {score:.4f}")
    figure.update_xaxes(title="threshold on the probability")
    figure.update_yaxes(title="mean precision, out of fold")
    return finished(figure, legend=LEGEND_ABOVE)


def _directed(objective: Objective) -> str:
    return f"{objective.name} ({'more' if objective.maximised else 'less'} is better)"
