"""`semisalt bench`, and what every command line has."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from semisalt.cli import app


@pytest.mark.parametrize(
    ("method", "options", "wanted"),
    [
        ("supervised", [], []),
        ("mean_teacher", [], ["mean_teacher"]),
        ("co_training", [], ["co_training"]),
        ("supervised", ["--methods"], ["mean_teacher", "co_training"]),
        ("mean_teacher", ["--no-methods"], []),
    ],
)
def test_methods_are_measured_where_asked_for_and_the_recipes_own(
    method: str, options: list[str], wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("semisalt.bench.bench", lambda config, **rest: asked.update(rest, method=config.method))
    monkeypatch.setattr("semisalt.bench.bench_table", lambda _: "measured")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"method: {method}\n")
    done = CliRunner().invoke(app, ["bench", "--config", str(recipe), "--seconds", "9", *options])
    assert (done.exit_code, "measured" in done.stdout) == (0, True)
    assert (asked["method"], asked["seconds"], list(asked["methods"])) == (method, 9.0, wanted)


def test_a_benchmark_takes_time() -> None:
    assert CliRunner().invoke(app, ["bench", "--seconds", "0"]).exit_code == 2


@pytest.mark.parametrize("words", [["-h"], ["study", "run", "-h"], ["data", "check", "--help"]], ids=" ".join)
def test_help_by_either_name(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "Usage: " in done.stdout) == (0, True)


def test_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"semisalt {version('semisalt')}\n")
