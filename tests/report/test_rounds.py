"""The table of pseudo-label rounds, as it is printed."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from semisalt.metrics import Interval
from semisalt.pseudo.figures import RoundFigures, Taken
from semisalt.pseudo.guards import Guards
from semisalt.pseudo.rounds import Outcome
from semisalt.report.rounds import rounds_table

TAKEN = Taken(
    candidates=12_345,
    empty=1_234,
    salt=2_345,
    coverage=0.241,
    prior=0.251,
    foreground=0.222,
    empty_share=0.4,
    known=100,
    truth=0.8765,
)


GUARDS = Guards(foreground=0.241, prior_foreground=0.252, empty_share=0.4, prior_empty_share=0.387, agreement=None)


def figures(number, score, minus=None, before=None, *, inflated=False, taken=TAKEN, guards=GUARDS):
    def interval(value):
        return None if value is None else Interval(value, value - 0.01, value + 0.02)

    return RoundFigures(
        number, f"runs/x/round{number}", taken if number else None, guards,
        interval(score), interval(minus), interval(before),
        90.0 * (number + 1), inflated,
    )  # fmt: skip


def printed(outcome, width=100):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(rounds_table(outcome))
    return console.export_text()


def row_of(text, number, part):
    """The cells of a round's row in one of the tables."""
    rows = [line.split() for line in text.splitlines() if line.split()[:1] == [str(number)]]
    return rows[part]


def test_every_figure_stands_in_its_row():
    second = figures(2, 0.72, 0.02, -0.005, taken=replace(TAKEN, truth=None), guards=replace(GUARDS, agreement=0.913))
    text = printed(Outcome((figures(0, 0.7), figures(1, 0.725, 0.025, 0.025), second), 1, "all 2 rounds were run"))
    assert " ".join(row_of(text, 0, 0)) == ".700 [.690, .720] 1.5".replace(".700", "0 .700")
    assert " ".join(row_of(text, 1, 0)) == "1 .725 [.715, .745] +.025 [+.015, +.045] +.025 [+.015, +.045] 3.0"
    assert " ".join(row_of(text, 2, 0)) == "2 .720 [.710, .740] +.020 [+.010, +.040] -.005 [-.015, +.015] 4.5"
    assert row_of(text, 1, 1) == ["1", "1,234", "2,345", "12,345", "24.1%", "25.1%", "22.2%", "0.876"]
    assert row_of(text, 2, 1) == ["2", "1,234", "2,345", "12,345", "24.1%", "25.1%", "22.2%"]
    assert row_of(text, 1, 2) == ["1", "24.1%", "(25.2%)", "40.0%", "(38.7%)"]
    assert row_of(text, 2, 2) == ["2", "24.1%", "(25.2%)", "40.0%", "(38.7%)", "0.91"]
    assert "All 2 rounds were run." in text
    assert "Result: round 1, runs/x/round1, +.025 [+.015, +.045] over round 0" in text
    assert "INFLATED" not in text
    assert "inflated" not in text


def test_inflated_rounds_say_so_in_the_heading_and_beside_each_score():
    text = printed(Outcome((figures(0, 0.7), figures(1, 0.8, 0.1, 0.1, inflated=True)), 1, "done"))
    assert text.lstrip().startswith("INFLATED: pooled labels; the scores marked so know the tiles they are made on")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[lines.index("1 .800 [.790, .820] +.100 [+.090, +.120] +.100 [+.090, +.120] 3.0") + 1] == "(inflated)"
    assert text.rstrip().endswith("over round 0 (inflated)")
    assert text.count("(inflated)") == 2


def test_no_round_beat_the_baseline():
    text = printed(Outcome((figures(0, 0.7), figures(1, 0.6, -0.1, -0.1)), 0, "round 1 does not beat round 0"))
    assert "Round 1 does not beat round 0." in text
    assert "Result: round 0, runs/x/round0: no round beat it" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_the_terminal(width):
    rounds = tuple(figures(k, 0.7, *(None, None) if not k else (0.1, -0.1), inflated=k > 0) for k in range(4))
    lines = printed(Outcome(rounds, 3, "all 3 rounds were run"), width).splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.count("]") == 3 for line in lines) == 3  # no score is broken over two lines
    assert "\n".join(lines).count("(inflated)") == 4
