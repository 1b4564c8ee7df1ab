"""What `semisalt study status`, `best` and the end of `run` print."""

import pytest
from rich.console import Console

from semisalt.report.trials import best_table, holdout_table, status_table
from tests.report.studies import add_completed, full_study, holdout_of, new_study, score_of


def printed(table):
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_status_counts_every_ending_and_names_the_best():
    study = full_study()
    study.set_user_attr("trials", 40)
    text = printed(status_table(study, {15: 7.4}))
    counts = {"completed": 10, "pruned": 2, "NaN": 1, "failed": 1, "killed": 1, "running": 1}
    assert all([name, str(count)] in rows(text) for name, count in counts.items())
    assert "of 40 trials begun" in text
    assert f"best so far: trial 4, score .{score_of(4) * 1000:.0f}" in text
    assert ["15", "7", "?", "0"] in rows(text)  # who runs, heard of 7 s ago, no epoch yet


def test_status_of_a_study_without_trials():
    text = printed(status_table(new_study(), {}))
    assert "best so far" not in text
    assert "Running" not in text


def test_the_best_trial_is_called_flattered():
    study = new_study()
    add_completed(study, 4)
    text = printed(best_table(study.trials[0]))
    assert "flattered" in text
    assert ["loss.bce", "0.6"] in rows(text)
    assert ["operating", "threshold", "0.42,", "min_salt", "20,", "min_hole", "0"] in rows(text)
    assert any(row[:2] == ["at", "0.5"] for row in rows(text))


def test_one_score_has_one_interval():
    study = new_study()
    add_completed(study, 4)
    result = holdout_of(4)
    text = printed(best_table(study.trials[0], result)) + printed(holdout_table(result))
    assert text.count(".802 [.782, .822]") == 2


@pytest.mark.parametrize("halves", [True, False])
def test_holdout_and_search_score_stand_in_one_table(halves):
    result = holdout_of(4)
    if halves:
        result["at_half"]["difference"] = {"value": 0.02, "low": -0.01, "high": 0.05}
    text = printed(holdout_table(result))
    assert "40 tiles that the search never saw" in text
    assert "+.018 [+.008, +.028]" in text
    assert ("+.020 [-.010, +.050]" in text) is halves
    assert ".802 [.782, .822] (flattering)" in text
