"""`semisalt pseudo inspect`, where there is nothing to look at."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from semisalt.cli import app


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (None, "it does not exist"),
        ([], "it has no rounds, semisalt pseudo makes them"),
        (["round0", "round1", "round2"], "there are round1, round2"),
    ],
)
def test_a_round_that_is_not_there(
    there: list[str] | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if there is not None:
        (tmp_path / "runs" / "mine").mkdir(parents=True)
    for name in there or ():
        (tmp_path / "runs" / "mine" / name).mkdir(parents=True)
        (tmp_path / "runs" / "mine" / name / "config.yaml").touch()
        (tmp_path / "runs" / "mine" / "rounds.json").touch()
    done = CliRunner().invoke(app, ["pseudo", "inspect", "mine", "--round", "3"])
    assert str(done.exception) == f"runs/mine holds no round 3: {said}"
