"""The page of a study: what stands on it in any state of the study, and that a browser shows it without complaint."""

import re

import pytest
from optuna.trial import TrialState as State
from selenium.webdriver.common.by import By

from semisalt.report.study import write_report
from semisalt.report.study_figures import importance_of
from semisalt.report.study_trials import best_trial, objectives
from tests.browser import chromium, complaints
from tests.report.pages import figures_of, plotted, read
from tests.report.studies import (
    add_completed,
    add_ended,
    best_run,
    directory_of,
    full_study,
    holdout_of,
    new_study,
    params_of,
    score_of,
    threshold_study,
)

PARTS = ("best", "holdout", "history", "importances", "slices", "parallel", "contour", "unfinished", "setting")


@pytest.fixture
def full(tmp_path):
    """A study with a trial of every ending, judged; its best trial is 4."""
    directory = directory_of(tmp_path / "salt-search", holdout=holdout_of(4))
    best_run(directory.trial_path(4))
    return write_report(directory, full_study())


def test_a_whole_study(full):
    assert full.name == "report.html"
    found = read(full).sections
    best = max(range(10), key=score_of)  # the fixture's own arithmetic
    assert best == 4
    assert f"Trial 4 reached the score {score_of(4):.4f}, the best of 10 completed trials." in found["head"]
    assert "16: 10 completed, 2 pruned, 1 NaN, 1 failed, 1 killed, 1 running" in found["head"]
    assert "schedule.max_lr" in found["best"]
    assert "0.0003" in found["best"]  # the base recipe's
    assert "schedule.kind is triangular or triangular2" in found["setting"].replace("  ", " ")
    reasons = {
        10: "epoch 2 of fold 0 is worse than the median",
        12: "the loss was not finite in step 17",
        13: "out of memory </script><b>x</b>",
        14: "no heartbeat for 120 s",
    }
    for number, reason in reasons.items():
        assert reason in found["unfinished"], number
    assert "0.5000 after 2" in found["unfinished"]  # trial 10: .3 + .01 · 10 · 2


def test_the_figures_show_the_trials(full):
    figures = plotted(full)
    trials, best = figures["history-1"]
    assert trials["x"] == list(range(10))
    assert trials["y"] == [score_of(n) for n in range(10)]
    assert best["y"] == [max(map(score_of, range(n + 1))) for n in range(10)]
    assert len(figures["history-2"]) == 14  # all but the one that failed at once and the one that runs
    (bars,) = figures["importances-1"]
    assert bars["y"][0] == "loss.bce"
    assert sum(bars["x"]) == pytest.approx(1)
    lines = figures["parallel-1"]
    assert len(lines) == 10
    # The best line last, upon the others: loss.bce .6 of 0 … 1 first, its score at the top last.
    assert lines[-1]["y"][0] == pytest.approx(params_of(4)["loss.bce"])
    assert lines[-1]["y"][-1] == 1
    curve, chosen, half = figures["threshold-1"]
    assert (chosen["x"], half["x"]) == ([0.42], [0.5])
    assert len(curve["x"]) == 31


def test_search_and_holdout_stand_side_by_side(full):
    text = read(full).sections["holdout"]
    assert "The best of 10 trials flatters itself" in text
    assert ".802 [.782, .822]" in text  # in the search
    assert ".758 [.738, .778]" in text  # the same on the holdout
    assert "beats the default recipe by +.018 [+.008, +.028]" in text
    assert [trace["x"] for trace in plotted(full)["holdout-1"]] == [[0.802], [0.758], [0.74]]


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.005, "does not tell the found configuration from the default recipe"),
        (-0.03, "is worse than the default recipe: -.030"),
    ],
)
def test_a_holdout_without_a_gain_says_so(tmp_path, difference, said):
    directory = directory_of(tmp_path / "study", holdout=holdout_of(2, difference))
    text = read(write_report(directory, full_study())).sections["holdout"]
    assert said in text
    assert "beats" not in text
    assert "The holdout was scored with trial 2; trial 4 is the best by now." in text


def unfinished_study():
    study = new_study()
    add_ended(study, 0, State.FAIL, "failed", "failed: no space left")
    return study


def one_trial():
    study = new_study()
    add_completed(study, 3)
    return study


def categorical_only():
    study = new_study()
    for number in range(6):
        kept = {k: v for k, v in params_of(number).items() if k in ("schedule.kind", "model.hypercolumn")}
        add_completed(study, number, params=kept)
    return study


def infinite_score():
    study = one_trial()
    add_completed(study, 4, values=[float("inf")])
    return study


def several_objectives(count=12):
    study = new_study("maximize", "minimize", "minimize")
    for number in range(count):
        add_completed(study, number, [score_of(number), 40.0 + number * 37 % 29, 1e6 * (1 + number % 4)])
    return study


def mixed_choices():
    """Keys that no two trials have both: the one of a cosine, the other of triangles."""
    study = new_study()
    for number in range(8):
        kind = ("cosine", "triangular")[number % 2]
        own = "schedule.max_lr" if kind == "cosine" else "schedule.step_size"
        kept = {"schedule.kind": kind, own: {"schedule.max_lr": 1e-3, "schedule.step_size": 100}[own] * (1 + number)}
        add_completed(study, number, params=kept)
    return study


ODD = {
    "no trial": (new_study, ("score",)),
    "none finished": (unfinished_study, ("score",)),
    "one trial": (one_trial, ("score",)),
    "categorical only": (categorical_only, ("score",)),
    "no trial with every key": (mixed_choices, ("score",)),
    "a score without bounds": (infinite_score, ("score",)),
    "three objectives": (several_objectives, ("score", "seconds", "parameters")),
    "three objectives, no trial": (lambda: several_objectives(0), ("score", "seconds", "parameters")),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_studies(tmp_path, name):
    build, wanted = ODD[name]
    found = read(write_report(directory_of(tmp_path / "study", wanted), build())).sections
    assert {*PARTS, "threshold"} <= set(found)
    assert "The holdout has not been scored yet." in found["holdout"]
    assert "beats" not in found["holdout"]


@pytest.fixture
def points(tmp_path):
    """A study of level threshold, judged; its best trial is 4."""
    directory = directory_of(tmp_path / "points", level="threshold", holdout=holdout_of(4))
    return write_report(directory, threshold_study())


def test_a_threshold_study(points):
    found = read(points).sections
    assert set(found) == {"head", *PARTS}  # no trial has a run whose curve could be shown
    assert "runs/cpu" in found["head"]
    assert "base recipe" not in found["best"]  # there is none
    assert "beats the run at 0.5 by +.018" in found["holdout"]
    assert "min_hole (chosen for the trial) 0" in found["best"].replace("  ", " ")
    assert "threshold (chosen" not in found["best"]  # it was searched


def test_a_threshold_study_without_a_trial(tmp_path):
    found = read(write_report(directory_of(tmp_path / "study", level="threshold"), new_study())).sections
    assert "No trial is completed yet." in found["best"]


def test_a_study_without_a_holdout_says_so(tmp_path):
    directory = directory_of(tmp_path / "study", share=0.0)
    assert "The study has no holdout" in read(write_report(directory, one_trial())).sections["holdout"]


def test_choices_that_are_tables_can_be_told_apart(full):
    """They are kept as JSON that begins the same."""
    names = {"bce 0.1<br>lovasz_hinge 0.9", "bce 0.1<br>lovasz_symmetric 0.9"}
    figures = figures_of(full)
    lines = [note["text"] for note in figures["parallel-1"][1]["annotations"]]
    axes = [axis for _, layout in figures.values() for name, axis in layout.items() if name.startswith("xaxis")]
    ticks = [text for axis in axes for text in axis.get("ticktext", ())]
    assert names <= set(lines)
    assert names <= set(ticks)
    assert "bce 0.1, lovasz_hinge 0.9" in read(full).sections["best"]


def test_a_contour_of_choices_stays_within_them(tmp_path):
    path = write_report(directory_of(tmp_path / "study"), categorical_only())
    traces, layout = figures_of(path)["contour-1"]
    assert traces[0]["line"]["smoothing"] == 0
    assert {*layout["xaxis"]["ticktext"], *layout["yaxis"]["ticktext"]} == {
        "true", "false", "cosine", "triangular", "triangular2"
    }  # fmt: skip


def test_of_equal_trials_the_best_line_is_the_earliest(tmp_path):
    """As every table has it."""
    directory = directory_of(tmp_path / "ties")
    study = new_study()
    for number in (1, 4, 2):
        add_completed(study, number, values=[0.5])
    lines, _ = figures_of(write_report(directory, study))["parallel-1"]
    assert lines[-1]["hovertext"].startswith("trial 0")
    assert best_trial(study, objectives(study, ("score",))[0]).number == 0


def test_conditional_keys_are_not_lost(full):
    """Trials 2, 5, 8 have no step size: their lines meet its axis below it, and all other trials' do not."""
    without = {n for n in range(10) if "schedule.step_size" not in params_of(n)}
    assert without == {2, 5, 8}
    lines, layout = figures_of(full)["parallel-1"]
    names = [name.replace("<br>", "") for name in layout["xaxis"]["ticktext"]]
    place = names.index("schedule.step_size")
    below = {int(re.match(r"trial (\d+)", line["hovertext"])[1]) for line in lines if line["y"][place] < 0}
    assert below == without


def test_the_front_of_several_objectives(tmp_path):
    values = {n: (score_of(n), 40.0 + n * 37 % 29, 1e6 * (1 + n % 4)) for n in range(12)}

    def beaten(n):
        a = values[n]
        return any(b != a and b[0] >= a[0] and b[1] <= a[1] and b[2] <= a[2] for b in values.values())

    path = write_report(directory_of(tmp_path / "study", ODD["three objectives"][1]), several_objectives())
    front = {str(n) for n in values if not beaten(n)}
    figures = plotted(path)
    assert {"pareto-1", "pareto-2", "pareto-3"} <= set(figures)
    assert all(set(figures[f"pareto-{k}"][1]["text"]) == front for k in (1, 2, 3))
    assert len(figures["importances-1"]) == 3


def test_importances_of_a_maximised_score_reward_high_scores():
    """The best tenth is the highest one: with a key that only the highest score has, the key decides."""
    study = new_study("maximize", "minimize")
    for number in range(20):
        params = {
            "loss.bce": 0.9 if number in (3, 11) else 0.1 + 0.01 * (number % 5),
            "model.hypercolumn": number % 2 == 0,
        }
        add_completed(study, number, [0.9 if number in (3, 11) else 0.5 + 0.001 * number, float(number)], params)
    shares = importance_of(study, objectives(study, ("score", "seconds"))[0])
    assert next(iter(shares)) == "loss.bce"
    assert shares["loss.bce"] > 0.9


def test_the_best_trial_is_the_earliest_of_equals_and_follows_the_direction():
    study = new_study("maximize", "minimize")
    for value in (0.5, 0.2, 0.2, 0.9):
        add_completed(study, 0, [1 - value, value])
    assert [best_trial(study, each).number for each in objectives(study, ("score", "seconds"))] == [1, 1]


def test_a_retried_trial_says_so(tmp_path):
    study = new_study()
    add_ended(study, 0, State.FAIL, "killed", "killed: no heartbeat for 120 s")
    add_completed(study, 0)
    trial = study.ask()
    trial.set_user_attr("retry_of", 0)
    found = read(write_report(directory_of(tmp_path / "study"), study)).sections
    assert "no heartbeat for 120 s; tried again as trial 2" in found["unfinished"]


def test_nothing_is_fetched(full):
    addresses = read(full).addresses
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "default-src 'none'" in full.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("name", ["whole", "points", "three objectives"])
def test_a_browser_shows_it_without_network(tmp_path, request, browser, name):
    if name in ("whole", "points"):
        page = request.getfixturevalue("full" if name == "whole" else name)
    else:
        build, wanted = ODD[name]
        page = write_report(directory_of(tmp_path / "study", wanted), build())
    browser.get(page.as_uri())
    assert complaints(browser) == []
    assert len(browser.find_elements(By.TAG_NAME, "section")) == len(read(page).sections) - 1
    drawn = {e.get_attribute("id") for e in browser.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")}
    assert drawn == set(plotted(page))
    for place in drawn:
        assert browser.find_element(By.CSS_SELECTOR, f"#{place} .main-svg").size["height"] > 150
    assert not browser.find_elements(By.CSS_SELECTOR, "[data-title*='Share']")
    if name == "whole":
        assert len(browser.find_elements(By.CSS_SELECTOR, "#parallel-1 .scatterlayer .trace")) == 10
        assert len(browser.find_elements(By.CSS_SELECTOR, "#unfinished tbody tr")) == 5
