"""The table of a method's health."""

import io

from rich.console import Console, Group

from semisalt.report.health import health_tables

PRIOR = {"prior_foreground": 0.2571, "prior_non_empty": 0.621}
TEACHER = {"foreground": 0.2224, "non_empty": 0.548, "sure_pixels": 0.8353, "consistency_share": 0.6537, **PRIOR}
VIEWS = {"foreground": 0.3, "non_empty": 0.7, "disagreement": 0.0421, "consistency_share": 0.1, **PRIOR}


def printed(folds: dict[str, dict[str, object]]) -> list[str]:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(Group(*health_tables({"folds": folds})))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_each_fold_stands_beside_its_labels() -> None:
    lines = printed({"0": {"health": TEACHER}, "3": {"health": {**TEACHER, "foreground": 0.1}}})
    assert "fold foreground non empty sure pixels consistency share" in lines
    assert "0 0.222 (0.257) 0.548 (0.621) 0.835 0.654" in lines
    assert "3 0.100 (0.257) 0.548 (0.621) 0.835 0.654" in lines
    assert any(line.startswith("sure pixels share of their pixels that it is sure of") for line in lines)
    assert not any("disagreement" in line for line in lines)


def test_views_disagree() -> None:
    lines = printed({"1": {"health": VIEWS}})
    assert "fold foreground non empty disagreement consistency share" in lines
    assert "1 0.300 (0.257) 0.700 (0.621) 0.042 0.100" in lines


def test_a_supervised_run_has_no_such_table() -> None:
    assert health_tables({"folds": {"0": {"seconds": 1.0}}}) == []
