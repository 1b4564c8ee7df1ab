"""A comparison, as it is printed and written."""

import csv
import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from semisalt.inference.compare import Comparison, Row
from semisalt.metrics import Interval
from semisalt.report.compare import comparison_csv, comparison_markdown, comparison_table

BASE = Row("base", "supervised", 124.4, (1040.0,), 1140.0, Interval(0.712, 0.68, 0.745), None, False, False)
GAIN = Interval(0.0215, 0.007, 0.0365)
TEACHER = Row("a|b", "mean teacher", 124.4, (1040.0, 520.0), 90.0, Interval(0.7335, 0.7, 0.766), GAIN, False, False)
POOLED = Row("pooled", "pseudo-labels, round 1", 124.4, (1040.0,), 90.0, Interval(0.8, 0.7, 0.9), GAIN, True, True)
FOUND = Comparison((0, 2), 1254, (BASE, TEACHER))


def printed(comparison: Comparison, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(comparison_table(comparison))
    return console.export_text()


def test_every_figure_stands_in_its_row() -> None:
    lines = [" ".join(line.split()) for line in printed(FOUND).splitlines()]
    assert "Mean precision at 0.5 over 1,254 out-of-fold tiles (folds 0, 2)" in lines
    base, teacher = (
        lines.index("base supervised 124 1,040 19 .712"),
        lines.index("a|b mean teacher 124 1,040 + 1.5 .734 +.021"),
    )
    assert lines[base + 1] == "[.680, .745]"
    assert lines[teacher + 1] == "520 [.700, .766] [+.007, +.036]"
    assert not any("INFLATED" in line or "chosen" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100])
def test_no_score_without_its_mark_and_no_line_too_long(width: int) -> None:
    lines = printed(Comparison((0,), 627, (BASE, POOLED)), width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert {"supervised", "pseudo-labels,"} <= set(text.split())  # no word is broken
    assert text.count("(INFLATED)") == 1
    assert text.count("(chosen by score)") == 1
    assert "no difference to it means anything" in text
    assert "(fold 0)" in text


def test_markdown_is_one_table() -> None:
    head, empty, *table = comparison_markdown(FOUND).splitlines()
    assert "1,254 out-of-fold tiles (folds 0, 2)" in head
    assert empty == ""
    assert table[1] == "|---|---|---|---|---|---|---|"
    assert table[2] == "| base | supervised | 124 | 1,040 | 19 | .712 [.680, .745] |  |"
    assert table[3].startswith(r"| a\|b | mean teacher | 124 | 1,040 + 520 |")
    assert "(INFLATED)" in comparison_markdown(Comparison((0,), 627, (BASE, POOLED)))


def test_csv_holds_the_figures_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(Comparison((0, 2), 1254, (BASE, TEACHER, POOLED))))))
    assert [row["run"] for row in rows] == ["base", "a|b", "pooled"]
    assert [float(rows[1][f"difference{end}"]) for end in ("", "_low", "_high")] == [0.0215, 0.007, 0.0365]
    assert rows[0]["difference"] == ""
    assert (float(rows[1]["steps_before"]), float(rows[1]["steps"])) == (1040, 520)
    assert [row["inflated"] for row in rows] == ["0", "0", "1"]
    assert [row["chosen_by_score"] for row in rows] == ["0", "0", "1"]
    assert {row["folds"] for row in rows} == {"0 2"}
    assert {row["tiles"] for row in rows} == {"1254"}


def test_steps_that_are_not_known_are_said_to_be_so() -> None:
    gone = Comparison((0, 2), 1254, (BASE, replace(TEACHER, steps=(math.nan, 520.0))))
    assert "| 124 | ? + 520 |" in comparison_markdown(gone)
    assert "its steps are not known" in " ".join(printed(gone).split())
    rows = list(csv.DictReader(io.StringIO(comparison_csv(gone))))
    assert [row["steps_before"] for row in rows] == ["0", ""]
    assert "not known" not in printed(FOUND)


@pytest.mark.parametrize("width", [80, 100])
def test_where_scores_were_taken_is_said_everywhere(width: int) -> None:
    fitted = Comparison((0, 2), 1254, (BASE, TEACHER), "cross_fitted")
    lines = printed(fitted, width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "Mean precision cross-fitted over 1,254" in text
    assert "score cross-fitted" in text
    assert "the operating point chosen on" in text
    assert "0.5" not in text
    assert "score cross-fitted" in comparison_markdown(fitted)
    for comparison, at in ((FOUND, "0.5"), (fitted, "cross-fitted")):
        assert {row["at"] for row in csv.DictReader(io.StringIO(comparison_csv(comparison)))} == {at}
