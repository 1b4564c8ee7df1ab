"""`semisalt mosaic`, with a matcher that is told the answer."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from semisalt.cli.mosaic import app
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.mosaics.grid import Mosaics, Pairs
from tests.mosaics.worlds import mosaics_of, pairs_of


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three labelled tiles and a bare one; the first lies left of the bare one."""
    generator = np.random.default_rng(0)
    for name in ("images", "masks", "unlabelled"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for tile in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / "data/images" / f"{tile}.png"), generator.integers(1, 256, (20, 20), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / "data/masks" / f"{tile}.png"), np.eye(20, dtype=np.uint8) * 255)
    cv2.imwrite(str(tmp_path / "data/unlabelled/u.png"), generator.integers(1, 256, (20, 20), dtype=np.uint8))

    def build(survey: Survey) -> tuple[Mosaics, Pairs]:
        made = mosaics_of([np.array([[0, 3]])], 4)
        return replace(made, ids=survey.labelled.ids + survey.unlabelled.ids), pairs_of(made)

    fake = ModuleType("semisalt.mosaics.build")
    fake.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "semisalt.mosaics.build", fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def test_build_and_show(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    with capsys.disabled():
        built = CliRunner().invoke(app, ["build", "--data", str(data), "--out", str(out)], catch_exceptions=False)
        shown = CliRunner().invoke(app, ["show", str(out)], catch_exceptions=False)
    assert (built.exit_code, shown.exit_code) == (0, 0)
    assert (out / "mosaics.csv").read_text().splitlines() == [
        "mosaic,row,column,id",
        "0,0,0,a",
        "-1,-1,-1,b",
        "-1,-1,-1,c",
        "0,0,1,u",
    ]
    assert json.loads((out / "survey.json").read_text())["source"] == str(data.resolve())
    assert "mosaic 0: 2 tiles" in (out / "mosaics.html").read_text()
    assert (out / "pictures" / "mosaic0000.png").exists()


def test_show_without_a_build_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="semisalt mosaic build"):
        CliRunner().invoke(app, ["show", str(tmp_path / "none")], catch_exceptions=False)
