import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.config import Config
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.run import RunDirectory
from semisalt.training import job
from semisalt.training.crossval import divide
from semisalt.training.job import run_training
from tests.tiny import tiny_config, tiny_survey

QUICK = tiny_config(channels={"depth": "auto"}, training={"max_steps": 1, "batch": 15, "precision": "auto"})


def begin(
    path: Path,
    survey: Survey,
    config: Config | None,
    *,
    folds: Sequence[int] | None = (0,),
    resume: bool = False,
    said: list[str] | None = None,
) -> dict[str, Any]:
    return run_training(
        path, survey, config, folds=folds, resume=resume, announce=said.append if said is not None else print
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "a"
    begin(path, tiny_survey(), QUICK)
    return path


def test_auto_is_settled_and_said(tmp_path: Path, survey: Survey) -> None:
    said: list[str] = []
    results = begin(tmp_path / "a", survey, QUICK, folds=None, said=said)
    config = RunDirectory.open(tmp_path / "a").config
    assert config.channels.depth is True
    assert config.training.precision in ("fp32", "bf16")
    assert any(config.training.precision in line and "speed" in line for line in said)
    assert any("depth" in line for line in said)
    assert results == json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["tiles"] == 59
    assert results["folds"].keys() == {"0", "1"}
    provenance = RunDirectory.open(tmp_path / "a").provenance
    assert provenance["data"] == survey.fingerprint
    assert provenance["packages"].keys() >= {"torch", "timm", "albumentations"}


def test_survey_without_depths_has_no_depth_channel(tmp_path: Path, survey: Survey) -> None:
    def shallow(tiles: TileSet) -> TileSet:
        return TileSet(tiles.ids, tiles.images, tiles.masks, None)

    flat = Survey(shallow(survey.labelled), shallow(survey.unlabelled), "0" * 64, Path("nowhere"), None)
    begin(tmp_path / "a", flat, QUICK)
    assert RunDirectory.open(tmp_path / "a").config.channels.depth is False
    with pytest.raises(UserError, match=r"channels\.depth is true, but nowhere has no depths"):
        begin(tmp_path / "b", flat, tiny_config())
    assert not (tmp_path / "b" / "config.yaml").exists()


def test_a_run_is_not_begun_twice(finished: Path, survey: Survey) -> None:
    with pytest.raises(UserError, match="already holds a run: add --resume"):
        begin(finished, survey, QUICK)


def test_resume_trains_a_further_fold_with_the_same_recipe(finished: Path, survey: Survey) -> None:
    before = (finished / "fold0" / "result.json").read_bytes()
    results = begin(finished, survey, None, folds=[1], resume=True)
    assert results["folds"].keys() == {"0", "1"}
    assert (finished / "fold0" / "result.json").read_bytes() == before
    assert begin(finished, survey, QUICK, resume=True) == results  # auto asked for agrees with what was settled


def test_resume_refuses_another_recipe_and_other_data(finished: Path, survey: Survey) -> None:
    with pytest.raises(UserError, match=r"seed: 1 in the run, 2 asked for"):
        begin(finished, survey, QUICK.model_copy(update={"seed": 2}), resume=True)
    with pytest.raises(UserError, match=f"fingerprint {survey.fingerprint} in the run"):
        begin(finished, tiny_survey(labelled=59), QUICK, resume=True)


def test_mistakes_leave_nothing_behind(tmp_path: Path, survey: Survey) -> None:
    with pytest.raises(UserError, match="is not a run"):
        begin(tmp_path / "a", survey, None, resume=True)
    with pytest.raises(UserError, match="--folds 2: the folds are 0 to 1"):
        begin(tmp_path / "a", survey, QUICK, folds=[2])
    assert list(tmp_path.iterdir()) == []


def test_too_few_labels_are_the_users_error(tmp_path: Path) -> None:
    # The third tile is blank: two folds of one tile each, so that each fold would learn from one.
    with pytest.raises(UserError, match=r"1 training tiles .* too few"):
        begin(tmp_path / "a", tiny_survey(labelled=3), QUICK)
    assert not (tmp_path / "a" / "config.yaml").exists()


def test_run_is_locked_while_it_trains(tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    def try_another(run: RunDirectory, *_: object) -> None:
        with pytest.raises(UserError, match="in use by pid"), run.lock():
            pass

    monkeypatch.setattr(job, "train_folds", try_another)
    monkeypatch.setattr(job, "evaluate", lambda *_: {"reached": True})
    assert begin(tmp_path / "a", survey, QUICK) == {"reached": True}


def test_leftovers_of_a_killed_process_are_swept_up(finished: Path, survey: Survey) -> None:
    for place in (finished, finished / "fold0"):
        (place / ".last.99.tmp.ckpt").touch()
    begin(finished, survey, QUICK, resume=True)
    assert list(finished.rglob(".*.tmp*")) == []


def test_unlabelled_tiles_never_come_from_the_folds_validation(survey: Survey) -> None:
    """Nor are they blank; what lost its label and what kept it are among them."""
    config = tiny_config(method="mean_teacher", data={"label_fraction": 0.5})  # type: ignore[arg-type]
    division = divide(survey, config)
    bare = job.lessons(survey, config)(0, division).bare
    assert bare is not None
    assert bare.masks is None
    assert not bare.blank.any()
    validation = set(division.validation(0).ids)
    assert not validation & set(bare.ids)
    everything = (set(survey.unlabelled.ids) | set(division.tiles.ids)) - validation
    blank = {survey.unlabelled.ids[at] for at in survey.unlabelled.blank.nonzero()[0]}
    assert set(bare.ids) == everything - blank


@pytest.mark.parametrize("method", ["mean_teacher", "co_training"])
def test_a_method_that_needs_unlabelled_tiles_says_so(tmp_path: Path, survey: Survey, method: str) -> None:
    config = tiny_config(method=method, training={"max_steps": 1, "patience": None})  # type: ignore[arg-type]
    nothing = replace(survey, unlabelled=survey.unlabelled.subset(np.arange(0)))
    with pytest.raises(UserError, match="no unlabelled tiles to learn from"):
        begin(tmp_path / "a", nothing, config)
    assert not (tmp_path / "a" / "config.yaml").exists()
    # Tiles that lost their labels to the fraction are unlabelled ones.
    fewer = tiny_config(method=method, data={"label_fraction": 0.5}, training={"max_steps": 1, "patience": None})  # type: ignore[arg-type]
    begin(tmp_path / "b", nothing, fewer)
