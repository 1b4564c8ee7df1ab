"""How a training on unlabelled tiles fared, as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from semisalt.report.plain import plain_table

# The figures of the last epoch, as the methods name them; a method has some of them.
_MEANING = {
    "foreground": "share of salt that the teacher (the view that sees least) sees in unlabelled tiles",
    "non_empty": "share of these tiles in which it sees any salt",
    "sure_pixels": "share of their pixels that it is sure of (teacher.confidence); `threshold` learns from no others",
    "taken": "share of these tiles that `tiles` learns from: tile and pasted part get the same word when mirrored",
    "disagreement": "share of their pixels on which the views do not agree",
    "consistency_share": "the loss on unlabelled tiles over that on labelled ones",
}


def health_tables(results: Mapping[str, Any]) -> list[Table]:
    """The folds' health beside what the labels say, and what its figures mean; none where no method has any."""
    folds = {fold: result["health"] for fold, result in results["folds"].items() if "health" in result}
    if not folds:
        return []
    names = [name for name in _MEANING if any(name in health for health in folds.values())]
    table = plain_table(("fold",), "Learning from unlabelled tiles, the last epoch (in brackets: the labelled tiles)")
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True)
    notes.add_column()
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
        notes.add_row(name.replace("_", " "), _MEANING[name])
    for fold, health in folds.items():
        table.add_row(fold, *(_cell(health, name) for name in names))
    return [table, notes]


def _cell(health: Mapping[str, float], name: str) -> str:
    prior = health.get(f"prior_{name}")
    return f"{health[name]:.3f}" + ("" if prior is None else f" ({prior:.3f})")
