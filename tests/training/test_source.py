import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.run import RunDirectory
from semisalt.training.fit import Trainer
from semisalt.training.job import run_training
from semisalt.training.source import check_start, check_weights, start_weights
from tests.tiny import tiny_config, tiny_survey

QUICK = {"training": {"max_steps": 2, "patience": None}, "snapshots": {"select": "last", "keep": 1}}


def config_of(**sections: Any) -> Config:
    return tiny_config(**{**QUICK, **sections})


@pytest.fixture(scope="module")
def survey() -> Survey:
    return tiny_survey()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, survey: Survey) -> RunDirectory:
    path = tmp_path_factory.mktemp("runs") / "source"
    run_training(path, survey, config_of(), folds=[0], resume=False, announce=print)
    return RunDirectory.open(path)


@pytest.mark.parametrize("method", ["supervised", "mean_teacher"])
def test_each_fold_begins_with_the_weights_of_its_own(
    tmp_path: Path, survey: Survey, source: RunDirectory, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Teacher and student alike, as they are before the first step."""
    first: list[dict[str, torch.Tensor]] = []
    save = Trainer.save

    def noted(self: Trainer) -> None:
        if not first:
            first.extend([self.plain[0].state_dict(), self.judged.state_dict()])
            first[:] = [{name: tensor.clone() for name, tensor in state.items()} for state in first]
        save(self)

    monkeypatch.setattr(Trainer, "save", noted)
    path = tmp_path / "run"
    run_training(path, survey, config_of(method=method), folds=[0], resume=False, announce=print, start=source)
    expected = load_file(start_weights(source, 0))
    for state in first:
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    begun = RunDirectory.open(path)
    assert begun.start is not None
    assert begun.start.path == source.path.resolve()


def test_resume_knows_where_it_began(tmp_path: Path, survey: Survey, source: RunDirectory) -> None:
    path = tmp_path / "run"
    run_training(path, survey, config_of(), folds=[0], resume=False, announce=print, start=source)
    run_training(path, survey, None, folds=[0], resume=True, announce=print, start=source)
    other = RunDirectory(tmp_path / "other")
    shutil.copytree(source.path, other.path)
    with pytest.raises(UserError, match=r"it began with .*source: leave out --from .*other"):
        run_training(path, survey, None, folds=[0], resume=True, announce=print, start=other)
    with pytest.raises(UserError, match="it began with no weights of a run"):
        run_training(source.path, survey, None, folds=[0], resume=True, announce=print, start=other)


@pytest.mark.parametrize(
    ("changes", "folds", "message"),
    [
        ({}, [0, 1], "fold 1 not finished"),
        ({"seed": 3}, [0], r"divided the tiles differently:\n  seed: 1 in the run, 3 asked for"),
        ({"data": {"label_fraction": 0.5}}, [0], r"data\.label_fraction"),
        ({"model": {"hypercolumn": True}}, [0], r"networks are others: give a run .*\n  model\.hypercolumn"),
        ({"method": "co_training"}, [0], "views: 1 in the run, 2 asked for"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path: Path, survey: Survey, source: RunDirectory, changes: dict[str, Any], folds: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_training(
            tmp_path / "run", survey, config_of(**changes), folds=folds, resume=False, announce=print, start=source
        )
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_channel_that_auto_would_add_is_refused(tmp_path: Path, survey: Survey) -> None:
    """The survey has depths, the source learned without: `auto` agrees with its word, not with its weights."""
    assert survey.depth_range is not None
    bare = config_of(channels={"depth": False})
    run_training(tmp_path / "bare", survey, bare, folds=[0], resume=False, announce=print)
    start = RunDirectory.open(tmp_path / "bare")
    with pytest.raises(UserError, match=r"channels\.depth: False in the run, True asked for"):
        run_training(
            tmp_path / "run",
            survey,
            config_of(channels={"depth": "auto"}),
            folds=[0],
            resume=False,
            announce=print,
            start=start,
        )
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_other_folds_of_a_run_that_goes_on_need_their_source_and_begun_ones_do_not(
    tmp_path: Path, survey: Survey, source: RunDirectory
) -> None:
    start, path = RunDirectory(tmp_path / "start"), tmp_path / "run"
    shutil.copytree(source.path, start.path)
    run_training(path, survey, config_of(), folds=[0], resume=False, announce=print, start=start)
    with pytest.raises(UserError, match="fold 1 not finished"):
        run_training(path, survey, None, folds=[0, 1], resume=True, announce=print)
    run = RunDirectory.open(path)
    expected = load_file(run.fold(0).averaged)
    run.fold(0).result.unlink()  # killed just before the end
    shutil.rmtree(start.path)
    run_training(path, survey, None, folds=[0], resume=True, announce=print)
    found = load_file(run.fold(0).averaged)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_that_are_not_needed_need_not_be_there(tmp_path: Path, survey: Survey, source: RunDirectory) -> None:
    config = config_of(model={"weights": str(tmp_path / "gone.safetensors")})
    run_training(tmp_path / "run", survey, config, folds=[0], resume=False, announce=print, start=source)
    with pytest.raises(UserError, match=r"gone\.safetensors"):
        run_training(tmp_path / "other", survey, config, folds=[0], resume=False, announce=print)


def test_other_tiles_are_refused(source: RunDirectory) -> None:
    with pytest.raises(UserError, match="made from other data"):
        check_start(source, tiny_survey(labelled=58), config_of(), [0])


@pytest.mark.parametrize("planted", ["pooled", "best"])
def test_weights_that_know_the_validation_tiles_are_refused(
    tmp_path: Path, survey: Survey, source: RunDirectory, planted: str
) -> None:
    run = RunDirectory(tmp_path / "planted")
    shutil.copytree(source.path, run.path)
    check_start(run, survey, config_of(), [0])
    if planted == "pooled":
        write_json(run.path / "provenance.json", {**run.provenance, "inflated": "labels of all folds"})
    else:
        text = (run.path / "config.yaml").read_text()
        (run.path / "config.yaml").write_text(text.replace("select: last", "select: best"))
    with pytest.raises(UserError, match="know the tiles that would be validated on"):
        check_start(run, survey, config_of(), [0])


def weights_config(file: Path, **sections: Any) -> Config:
    return config_of(model={"weights": str(file)}, **sections)


def test_a_file_of_weights_that_knows_the_validation_tiles_is_refused(
    tmp_path: Path, survey: Survey, source: RunDirectory
) -> None:
    """Planted: fold 0's weights as fold 1's beginning, by their path instead of --from."""
    file = source.fold(0).averaged
    path = tmp_path / "run"
    for folds in ([1], [0, 1]):
        with pytest.raises(
            UserError, match=r"averaged.safetensors has learned from the tiles that fold 1 is validated"
        ):
            run_training(path, survey, weights_config(file), folds=folds, resume=False, announce=print)
    with pytest.raises(UserError, match="divided the tiles differently:\n  seed: 1 in the run, 3 asked for"):
        run_training(path, survey, weights_config(file, seed=3), folds=[0], resume=False, announce=print)
    assert not (path / "config.yaml").exists()
    run_training(path, survey, weights_config(file), folds=[0], resume=False, announce=print)
    with pytest.raises(UserError, match="fold 1 is validated on"):
        run_training(path, survey, None, folds=[0, 1], resume=True, announce=print)


def test_weights_of_a_run_that_knows_its_validation_tiles_are_refused_by_their_path(
    tmp_path: Path, survey: Survey, source: RunDirectory
) -> None:
    run = RunDirectory(tmp_path / "planted")
    shutil.copytree(source.path, run.path)
    snapshot = next(run.fold(0).snapshots.glob("*.safetensors"))
    for file in (snapshot, run.fold(0).averaged):
        check_weights(survey, weights_config(file), [0])
    write_json(run.path / "provenance.json", {**run.provenance, "inflated": "labels of all folds"})
    for file in (snapshot, run.fold(0).averaged):
        with pytest.raises(UserError, match="know the tiles that would be validated on"):
            check_weights(survey, weights_config(file), [0])


def test_weights_of_which_nothing_is_known_and_of_other_surveys_are_taken(
    tmp_path: Path, survey: Survey, source: RunDirectory
) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copy(source.fold(0).averaged, alone)
    check_weights(survey, weights_config(alone), [0, 1])
    beside = shutil.copytree(source.path, tmp_path / "run") / "folds.safetensors"
    shutil.copy(alone, beside)
    check_weights(survey, weights_config(beside), [0, 1])  # of no fold that could be named
    check_weights(tiny_survey(labelled=58), weights_config(source.fold(0).averaged), [0, 1])
    check_weights(survey, config_of(), [0, 1])
