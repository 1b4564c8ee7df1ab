"""`semisalt baseline` and its like, as far as they decide anything themselves."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from semisalt.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("command", "method", "said"),
    [
        ("baseline", "mean_teacher", "is written for semisalt teacher; this is semisalt baseline"),
        ("cotrain", "mean_teacher", "is written for semisalt teacher; this is semisalt cotrain"),
        ("teacher", "supervised", None),  # a supervised recipe says nothing of unlabelled tiles, and forbids none
        ("teacher", "mean_teacher", None),
    ],
)
def test_a_recipe_of_another_command_is_not_used_in_silence(
    command: str, method: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(f"method: {method}\n")
    done = CliRunner().invoke(app, [command, "--config", "r.yaml", "--data", "nowhere"])
    assert "nowhere" in str(done.exception)
    assert (f"r.yaml {said}" in done.output) if said else (done.output == "")


@pytest.mark.parametrize("command", ["baseline", "teacher", "cotrain"])
def test_without_a_recipe_the_methods_own_one_is_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = CliRunner().invoke(app, [command, "--data", "nowhere", "--set", "training.epochs=77"]).output
    if command == "baseline":
        assert output == ""
    else:
        assert "77 epochs" in output
        assert f"--config configs/{command}.yaml" in " ".join(output.split())
        assert (REPOSITORY / "configs" / f"{command}.yaml").exists()


@pytest.mark.parametrize(
    ("command", "method", "named"),
    [
        ("teacher", "mean_teacher", "r"),
        ("teacher", "supervised", "r"),
        ("baseline", "mean_teacher", "r-baseline"),  # leaves runs/r to the command that the recipe was written for
        ("cotrain", "mean_teacher", "r-cotrain"),
        ("cotrain", None, "cotrain"),
    ],
)
def test_a_run_is_called_after_its_recipe(
    command: str, method: str | None, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(f"method: {method}\n")
    config = ["--config", "r.yaml"] if method else []
    done = CliRunner().invoke(app, [command, *config, "--resume"])
    assert str(done.exception).startswith(f"runs/{named} is not a run")
