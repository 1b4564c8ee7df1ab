"""Runs side by side as a table for the terminal, as Markdown and as CSV."""

import csv
import io
import math

from rich.console import Group
from rich.table import Table
from rich.text import Text

from semisalt.inference.compare import Comparison, Row
from semisalt.inference.evaluate import Point
from semisalt.report.plain import plain_table

_POINTS: dict[Point, str] = {"half": "at 0.5", "cross_fitted": "cross-fitted"}


def comparison_table(comparison: Comparison) -> Group:
    """The table for the terminal, with what its columns mean."""
    table = plain_table((), f"Mean precision {_POINTS[comparison.point]} over {_tiles(comparison)}")
    for name in _columns(comparison):
        figure = name not in ("run", "method")
        table.add_column(name, justify="right" if figure else "left", no_wrap=figure, overflow="fold")
    for row in comparison.rows:
        table.add_row(*_cells(row, "\n"))
    return Group(table, Text(), _notes(comparison))


def comparison_markdown(comparison: Comparison) -> str:
    """The same table in Markdown, one line a row."""
    lines = [
        f"Mean precision {_POINTS[comparison.point]} over {_tiles(comparison)}; 95 % intervals over tiles, differences "
        "paired.",
        "",
        f"| {' | '.join(_columns(comparison))} |",
        f"|{'---|' * len(_columns(comparison))}",
    ]
    for row in comparison.rows:
        cells = [cell.replace("|", "\\|") for cell in _cells(row, " ")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """The same figures unrounded, a column each; the intervals as three."""
    buffer = io.StringIO()
    lines = [_figures(row, comparison) for row in comparison.rows]
    writer = csv.DictWriter(buffer, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _figures(row: Row, comparison: Comparison) -> dict[str, str | float]:
    difference = row.difference
    return {
        "run": row.name,
        "method": row.method,
        "labels": row.labels,
        "steps_before": "" if math.isnan(row.steps[0]) else sum(row.steps[:-1]),
        "steps": row.steps[-1],
        "seconds": row.seconds,
        "at": _POINTS[comparison.point].removeprefix("at "),
        "score": row.score.value,
        "score_low": row.score.low,
        "score_high": row.score.high,
        "difference": "" if difference is None else difference.value,
        "difference_low": "" if difference is None else difference.low,
        "difference_high": "" if difference is None else difference.high,
        "inflated": int(row.inflated),
        "chosen_by_score": int(row.chosen),
        "folds": " ".join(map(str, comparison.folds)),
        "tiles": comparison.tiles,
    }


def _columns(comparison: Comparison) -> tuple[str, ...]:
    return ("run", "method", "labels", "steps", "min", f"score {_POINTS[comparison.point]}", "minus the first")


def _tiles(comparison: Comparison) -> str:
    folds = "fold" if len(comparison.folds) == 1 else "folds"
    return f"{comparison.tiles:,} out-of-fold tiles ({folds} {', '.join(map(str, comparison.folds))})"


def _cells(row: Row, gap: str) -> tuple[str, ...]:
    """A row's cells; `gap` parts what may stand on lines of its own, so that seven columns fit a terminal."""
    # Never a score without its mark.
    marks = [mark for mark, told in (("INFLATED", row.inflated), ("chosen by score", row.chosen)) if told]
    return (
        row.name,
        row.method,
        f"{row.labels:,.0f}",
        f" +{gap}".join("?" if math.isnan(steps) else f"{steps:,.0f}" for steps in row.steps),
        f"{row.seconds / 60:.0f}" if row.seconds >= 600 else f"{row.seconds / 60:.1f}",
        gap.join([str(row.score).replace(" [", f"{gap}["), *(f"({mark})" for mark in marks)]),
        "" if row.difference is None else row.difference.signed.replace(" [", f"{gap}["),
    )


def _notes(comparison: Comparison) -> Table:
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True)
    notes.add_column()
    notes.add_row("labels", "tiles that a fold may learn from with their labels, the mean over the folds")
    notes.add_row("steps", "of the optimiser, a fold; first those of the runs whose weights or labels it builds on")
    if any(math.isnan(row.steps[0]) for row in comparison.rows):
        notes.add_row("?", "it builds on a run that is gone, unfinished, or another one now: its steps are not known")
    notes.add_row("min", "of its own training, all folds together")
    if comparison.point == "cross_fitted":
        notes.add_row("cross-…", "each tile at the operating point chosen on its run's other folds, or other half")
    notes.add_row(
        "[…, …]", "95 % bootstrap interval over tiles; that of a difference is paired, and decides where 0 is out"
    )
    if any(row.inflated for row in comparison.rows):
        notes.add_row("INFLATED", "its scores are of tiles that it knows: no difference to it means anything")
    if any(row.chosen for row in comparison.rows):
        notes.add_row("chosen …", "the validation score had a say in its weights (snapshots.select, training.patience)")
    return notes
