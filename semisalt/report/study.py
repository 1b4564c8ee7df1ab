"""The page of a study: what was searched, what was found, and what it is worth. One file, no network.

The figures are plotly's, whose JavaScript is written into the page; the page's own policy lets it fetch nothing.
"""

from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from optuna.study import Study
from optuna.trial import FrozenTrial
from plotly.offline import get_plotlyjs

from semisalt.files import write_text
from semisalt.report import study_sections as parts
from semisalt.report.study_figures import importance_of
from semisalt.report.study_tables import facts
from semisalt.report.study_trials import Objective, best_trial, completed, objectives, short
from semisalt.studies.directory import StudyDirectory

# Without plotly's own choice, which has one that uploads the figure.
_BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]
_TEMPLATE = Path(__file__).with_name("study.html")


def write_report(directory: StudyDirectory, study: Study) -> Path:
    """Write STUDY/report.html; returns its path.

    Any state of a study will do: none of its trials finished, some of them pruned or failed, keys that only some have.

    Args:
        directory: whose request, holdout and trials' runs are read.
        study: its trials. The caller gives a copy where a live study must not be locked.
    """
    shown = objectives(study, directory.request.objectives)
    best = best_trial(study, shown[0])
    shares = {each.name: importance_of(study, each) for each in shown}
    ranked = list(shares[shown[0].name])
    sections = [
        parts.best_section(directory, study, shown, best),
        parts.holdout_section(directory, study, best),
        parts.history_section(study, shown),
        *([parts.pareto_section(study, shown)] if len(shown) > 1 else []),
        parts.importances_section(study, shares),
        parts.slices_section(study, shown[0]),
        parts.parallel_section(study, shown[0], ranked),
        parts.contour_section(study, shown[0], ranked),
        *([parts.threshold_section(directory, best)] if directory.request.level == "training" else []),
        parts.unfinished_section(study),
        parts.setting_section(directory),
    ]
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    text = page.render(
        title=f"Study: {directory.request.name}",
        headline=_headline(study, shown[0], best),
        facts=facts(directory, study),
        sections=[_drawn(section) for section in sections],
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # a package's own file
    )
    path = directory.path / "report.html"
    write_text(path, text)
    return path


def _drawn(section: parts.Section) -> parts.Section:
    settings = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "modeBarButtons": _BUTTONS}
    figures = [
        # plotly writes '<', '>' and '/' of its data as escapes, so that no value can end the script.
        Markup(figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"{section.name}-{k}", config=settings))  # noqa: S704
        for k, figure in enumerate(section.figures, start=1)
    ]
    return replace(section, figures=figures)


def _headline(study: Study, lead: Objective, best: FrozenTrial | None) -> str:
    if best is None:
        return "No trial is completed yet."
    count = len(completed(study))
    of = "the only completed trial" if count == 1 else f"the best of {count} completed trials"
    return f"Trial {best.number} reached the {lead.name} {_value(lead, best)}, {of}."


def _value(lead: Objective, trial: FrozenTrial) -> str:
    return f"{lead.of(trial):.4f}" if lead.name == "score" else short(lead.of(trial))
