"""The parts of a study's page, one function each: the sentences, and which figures and tables stand under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial

from semisalt.errors import UserError
from semisalt.report.study_figures import FEWEST, Figure, contour, courses, history, importances, slices
from semisalt.report.study_parallel import parallel
from semisalt.report.study_scores import pareto, search_and_holdout, threshold_curve
from semisalt.report.study_tables import Table, best_table, holdout_table, ranking, space_table, unfinished, verdict
from semisalt.report.study_trials import Objective, completed, endings
from semisalt.run import RunDirectory
from semisalt.studies.directory import StudyDirectory

_NONE_YET = "No trial is completed yet."


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, then figures, then tables; `missing` says why there is nothing to see."""

    name: str
    title: str
    texts: Sequence[str] = ()
    warning: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[tuple[str, Table]] = ()
    missing: str = ""
    listing: str = ""


def best_section(
    directory: StudyDirectory, study: Study, shown: Sequence[Objective], best: FrozenTrial | None
) -> Section:
    if best is None:
        return Section("best", "The best trial", missing=_NONE_YET)
    return Section(
        "best",
        "The best trial",
        texts=[f"The best by {shown[0].name}."] if len(shown) > 1 else [],
        tables=[best_table(best, directory.request.recipe)],
        folded=[("All completed trials, the best first", ranking(study, shown))],
    )


def holdout_section(directory: StudyDirectory, study: Study, best: FrozenTrial | None) -> Section:
    title, holdout, count = "Search and holdout", directory.holdout_result(), len(completed(study))
    luck = "it was chosen because its score came out highest, luck included."
    texts = [f"The best of {count} trials flatters itself: {luck}"] if count > 1 else []
    if not directory.request.holdout:
        missing = "The study has no holdout: nothing here says what the best trial is worth on other tiles."
        return Section("holdout", title, texts=texts, missing=missing)
    if holdout is None:
        texts.append("What it is worth is told by the holdout, which no trial has seen.")
        return Section("holdout", title, texts=texts, missing="The holdout has not been scored yet.")
    gap = holdout["search_score"]["value"] - holdout["best"]["value"]
    texts += [
        f"The holdout's {holdout['tiles']:,} tiles were seen by no trial: they give the figure to quote.",
        f"Score in the search minus score on the holdout: {gap:+.3f}. Part of that is the tiles' own difficulty, since "
        "the two are scores of different tiles. The difference of the two on the holdout is paired over its tiles.",
    ]
    stale = (
        f"The holdout was scored with trial {holdout['best_trial']}; trial {best.number} is the best by now."
        if best is not None and best.number != holdout["best_trial"]
        else ""
    )
    default = "default recipe" if directory.request.level == "training" else "run at 0.5"
    return Section(
        "holdout",
        title,
        texts=[verdict(holdout, default), *texts],
        warning=stale,
        figures=[search_and_holdout(holdout, default)],
        tables=[holdout_table(holdout, default)],
    )


def history_section(study: Study, shown: Sequence[Objective]) -> Section:
    figures = [*(history(study, each) for each in shown), courses(study)]
    return _drawn("history", "History", "", figures, "No trial has a score yet.")


def pareto_section(study: Study, shown: Sequence[Objective]) -> Section:
    front = [trial.number for trial in study.best_trials] if completed(study) else []
    return Section(
        "pareto",
        "Pareto front",
        texts=["A trial is on the front where no other is as good in every objective and better in one."],
        figures=pareto(study, shown),
        tables=[ranking(study, shown, front)] if front else [],
        missing="" if front else _NONE_YET,
    )


def importances_section(study: Study, shares: Mapping[str, Mapping[str, float]]) -> Section:
    count = len(completed(study))
    few = "With so few trials this is a hint, no finding. " if count < 30 else ""
    text = (
        f"How much each key tells the best tenth of the {count} completed trials from all of them (PED-ANOVA); "
        f"the shares sum to 1. {few}A key that hardly varied cannot look important."
    )
    missing = f"It takes {FEWEST} completed trials in which something varied."
    return _drawn("importances", "Importances", text, [importances(shares)], missing)


def slices_section(study: Study, lead: Objective) -> Section:
    text = "Completed trials over each key, later ones darker; a trial without the key is not in its picture."
    missing = "It takes two completed trials with different values."
    return _drawn("slices", "Slices", text, slices(study, lead), missing)


def parallel_section(study: Study, lead: Objective, ranked: Sequence[str]) -> Section:
    text = "A line is a completed trial: the darker, the better; orange is the best. Important keys come first."
    return _drawn("parallel", "Parallel coordinates", text, [parallel(study, lead, ranked)], _NONE_YET)


def contour_section(study: Study, lead: Objective, ranked: Sequence[str]) -> Section:
    text = "The two most important of the keys that trials had together. Between the trials (dots) it is a guess."
    missing = f"It takes {FEWEST} completed trials in which two keys varied together."
    return _drawn("contour", "The two most important", text, [contour(study, lead, ranked)], missing)


def threshold_section(directory: StudyDirectory, best: FrozenTrial | None) -> Section:
    title = "Threshold of the best trial"
    if best is None or "run" not in best.user_attrs:
        return Section("threshold", title, missing="No completed trial has a run yet.")
    try:
        figure = threshold_curve(RunDirectory.open(directory.path / best.user_attrs["run"]).results)
    except UserError as error:
        return Section("threshold", title, missing=f"It cannot be shown: {error}.")
    text = "A flat top forgives a threshold that is a little off; the chosen point was picked on these very tiles."
    return _drawn("threshold", title, text, [figure], "")


def unfinished_section(study: Study) -> Section:
    table = unfinished(study)
    counts = ", ".join(f"{count} {name}" for name, count in endings(study).items())
    return Section(
        "unfinished",
        "Pruned, failed and killed trials",
        texts=[f"All trials: {counts}."] if counts else [],
        tables=[table] if table.rows else [],
        missing="" if table.rows else "None.",
    )


def setting_section(directory: StudyDirectory) -> Section:
    recipe = directory.request.recipe
    listing = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else ""
    return Section("setting", "What was searched", tables=[space_table(directory)], listing=listing)


def _drawn(name: str, title: str, text: str, figures: Sequence[Figure | None], missing: str) -> Section:
    """The figures that there are, under a sentence; `missing` where there is none."""
    there = [figure for figure in figures if figure is not None]
    if not there:
        return Section(name, title, missing=missing)
    return Section(name, title, texts=[text] if text else [], figures=there)
