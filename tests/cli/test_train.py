"""`semisalt baseline` and its like, as far as they decide anything themselves."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from semisalt.cli import app


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
