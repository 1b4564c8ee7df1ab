"""A small study that trains: what its trials meet, what is kept of them, and what they are worth on the holdout."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.pruners import BasePruner
from optuna.trial import TrialState
from safetensors.torch import load_file

from semisalt.config import Config
from semisalt.data.read import load_survey
from semisalt.data.synthetic import write_survey
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.metrics import precision
from semisalt.recipe import load_config
from semisalt.run import RunDirectory, read_csv, read_json
from semisalt.studies import search
from semisalt.studies.best import best_trial, write_best
from semisalt.studies.command import run_study
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.objective import Objective
from semisalt.training import crossval, fit
from semisalt.training.crossval import divide
from semisalt.training.fit import Trainer
from semisalt.training.job import lessons, run_training
from tests.studies.made import quiet, survey_path, tiny_study, trials_of
from tests.tiny import tiny_config

CPU = torch.device("cpu")
SPACE: dict[str, Any] = {
    "schedule.peak": {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True},
    "loss.finish.bce": {"kind": "float", "low": 0.1, "high": 1},
}


def recipe(**sections: Any) -> Config:
    """Two epochs; five tiles a step."""
    return tiny_config(channels={"depth": "auto"}, training={"epochs": 2, "batch": 5}, **sections)


@dataclass
class Made:
    """A study that was run, and the ids of all tiles that any of its trainings met."""

    directory: StudyDirectory
    survey: Survey
    met: set[str]
    result: dict[str, Any]
    reported: list[tuple[str, dict[str, Any], dict[str, float]]]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return load_survey(survey_path(tmp_path_factory.mktemp("search")))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiles: Survey) -> Made:
    """Three trials of a mean teacher, which meets unlabelled tiles, too; a fifth of the labelled ones is kept out."""
    met: set[str] = set()
    begin = Trainer.__init__

    def noted(self: Trainer, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        met.update(self.train.ids, self.validation.ids, self.bare.ids if self.bare else ())

    config = recipe(method="mean_teacher", data={"label_fraction": 0.7})
    path = tmp_path_factory.mktemp("runs") / "study"
    directory = tiny_study(path, tiles, config, CPU, holdout=0.2, folds=[0, 1], space=SPACE, sampler={"startup": 2})
    reported: list[tuple[str, dict[str, Any], dict[str, float]]] = []

    def report(run: RunDirectory, _: Survey, searched: Any, figures: Any) -> None:
        reported.append((run.path.name, dict(searched), dict(figures)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", noted)
        patch.setattr(fit, "refuse_collapse", quiet4)  # two epochs on forty tiles predict little salt
        result = run_study(directory, 3, 1, None, CPU, quiet, report)
    assert result is not None
    return Made(directory, tiles, met, result, reported)


def test_each_trial_is_a_run_scored_out_of_fold_at_an_inner_optimum(study: Made) -> None:
    trials = trials_of(study.directory)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    for trial in trials:
        run = RunDirectory.open(study.directory.trial_path(trial.number))
        results = run.results
        assert trial.values == [results["cross_fitted"]["value"]]
        assert trial.user_attrs["score"] == results["cross_fitted"]
        assert trial.user_attrs["at_half"] == results["at_half"]["precision"]["value"]
        assert trial.user_attrs["operating"] == results["operating"]
        assert trial.user_attrs["folds"] == [0, 1]
        assert trial.user_attrs["seconds"] > 0
        assert run.config.schedule.peak == trial.params["schedule.peak"]
        assert run.config.loss.finish["bce"] == trial.params["loss.finish.bce"]
        weights = torch.cat([w.flatten() for w in _weights(run).values() if w.is_floating_point()])
        # Parameters are the weights but the running statistics.
        assert 0 < trial.user_attrs["parameters"] <= len(weights)
        # One report an epoch; step = position of the fold × epochs + epoch + 1.
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
        scores = {fold: [json.loads(line)["score"] for line in run.fold(fold).metrics.open()] for fold in (0, 1)}
        first = run.fold_result(0)["precision_at_half"]["predictions"]["value"]
        wanted = [*scores[0], *((first + score) / 2 for score in scores[1])]
        assert list(trial.intermediate_values.values()) == pytest.approx(wanted)
    names = [name for name, _, _ in study.reported]
    assert names == ["trial0000", "trial0001", "trial0002"]
    for trial, (_, searched, figures) in zip(trials, study.reported, strict=True):
        assert searched == trial.params
        assert figures["score"] == trial.values[0]
        assert set(figures) == {"score", "at_half", "seconds", "parameters"}


def unseen(met: set[str], survey: Survey, kept_out: set[str]) -> bool:
    """Whether trainings met none of the tiles kept out, and did not shun others (blank ones are left out anyhow)."""
    labelled = {name for name, blank in zip(survey.labelled.ids, survey.labelled.blank, strict=True) if not blank}
    return not met & kept_out and met >= labelled - kept_out


def test_no_training_ever_meets_the_holdout(study: Made) -> None:
    kept_out = {row["id"] for row in read_csv(study.directory.path / "holdout.csv")}
    seen = np.count_nonzero(~study.survey.labelled.blank)
    assert len(kept_out) == study.directory.request.data["holdout_tiles"] == round(0.2 * seen)
    assert unseen(study.met, study.survey, kept_out)
    runs = [*(study.directory.trial_path(number) for number in range(3)), study.directory.default]
    for run in runs:
        for table in ("folds.csv", "oof.csv"):
            assert not {row["id"] for row in read_csv(run / table)} & kept_out


@pytest.mark.parametrize("method", ["supervised", "mean_teacher", "co_training"])
def test_a_holdout_that_leaks_is_noticed(study: Made, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    config = study.directory.request.base.model_copy(update={"method": method})
    kept_out = set(divide(study.survey, config).holdout.ids)

    def met() -> set[str]:
        division, lesson_of = divide(study.survey, config), lessons(study.survey, config)
        ids: set[str] = set()
        for fold in range(config.data.folds):
            bare = lesson_of(fold, division).bare
            parts = [division.train(fold), division.validation(fold), division.unlabelled(fold)]
            for part in [*parts, *([bare] if bare else [])]:
                ids |= set(part.ids)
        return ids

    assert unseen(met(), study.survey, kept_out)
    monkeypatch.setattr(crossval, "held_out", lambda coverage, *_: np.zeros(len(coverage), np.bool_))
    assert not unseen(met(), study.survey, kept_out)


def test_the_last_judgement_is_on_the_holdout(study: Made) -> None:
    result = read_json(study.directory.path / "holdout.json")
    assert result == study.result == study.directory.holdout_result()
    rows = read_csv(study.directory.path / "holdout.csv")
    scores = {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "id"}
    assert result["tiles"] == len(rows)
    for name in ("default", "best"):
        assert result[name]["value"] == pytest.approx(scores[name].mean())
        assert result["at_half"][name]["value"] == pytest.approx(scores[f"{name}_at_half"].mean())
    assert result["difference"]["value"] == pytest.approx((scores["best"] - scores["default"]).mean())
    best = max(trials_of(study.directory), key=lambda trial: trial.values[0])
    assert result["best_trial"] == best.number
    assert result["search_score"] == best.user_attrs["score"]
    # The figures are the two runs' own: both folds' mean probabilities on these very tiles.
    by_id = {name: index for index, name in enumerate(study.survey.labelled.ids)}
    masks = study.survey.labelled.masks
    assert masks is not None
    truth = masks[[by_id[row["id"]] for row in rows]]
    folder = study.directory.trial_path(best.number) / "holdout"
    folds = [np.load(folder / f"fold{fold}.npy").astype(float) for fold in (0, 1)]
    mean = np.rint(np.mean(folds, axis=0))
    assert precision(mean > 127, truth) == pytest.approx(scores["best_at_half"])


def test_the_best_trial_alone_gives_the_same_to_the_bit(
    study: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "refuse_collapse", quiet4)
    best = best_trial(study.directory.open_study(), study.directory.path)
    file = write_best(study.directory, best)
    assert "semisalt teacher --config" in file.read_text()
    run_training(tmp_path / "alone", study.survey, load_config(file), folds=[0, 1], resume=False, announce=quiet)
    trial, alone = RunDirectory(study.directory.trial_path(best.number)), RunDirectory(tmp_path / "alone")
    assert (alone.path / "oof.npy").read_bytes() == (trial.path / "oof.npy").read_bytes()
    assert alone.results["cross_fitted"] == best.user_attrs["score"]
    first, second = _weights(trial), _weights(alone)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_study_trains_nothing_more(study: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "__init__", None)
    assert run_study(study.directory, 3, 1, None, CPU, quiet, quiet4) == study.result
    assert len(trials_of(study.directory)) == 3


def test_what_changed_is_named_when_a_study_goes_on(study: Made, tmp_path: Path) -> None:
    path, config = study.directory.path, recipe(method="mean_teacher", data={"label_fraction": 0.7})
    same: dict[str, Any] = {"holdout": 0.2, "folds": [0, 1], "space": SPACE, "sampler": {"startup": 2}}
    tiny_study(path, study.survey, config, CPU, **same)  # the same is taken up
    narrow = {**SPACE, "schedule.peak": {**SPACE["schedule.peak"], "high": 0.05}}
    other = load_survey(survey_path_of(tmp_path))
    with pytest.raises(UserError, match=r"space: schedule\.peak: .*'high': 0\.1.*'high': 0\.05.* asked for"):
        tiny_study(path, study.survey, config, CPU, **{**same, "space": narrow})
    with pytest.raises(UserError, match="data: fingerprint: "):
        tiny_study(path, other, config, CPU, **same)
    changed = config.model_copy(update={"training": config.training.model_copy(update={"batch": 6})})
    with pytest.raises(UserError, match=r"recipe: training\.batch: 5 in the run, 6 asked for"):
        tiny_study(path, study.survey, changed, CPU, **same)
    with pytest.raises(UserError, match=r"holdout: 0\.2 in the study, 0\.3 asked for"):
        tiny_study(path, study.survey, config, CPU, **{**same, "holdout": 0.3})


def test_a_trial_that_diverges_is_told_from_one_that_cannot_be(tmp_path: Path, tiles: Survey) -> None:
    space = {
        "schedule.peak": {"kind": "categorical", "choices": [1e30, 3e-3]},
        "schedule.base": {"kind": "categorical", "choices": [1e-3, 1e-2]},
    }
    directory = tiny_study(tmp_path / "study", tiles, recipe(), CPU, folds=[0], space=space)
    desk = search.open_desk(directory)
    for values in ({"schedule.peak": 1e30, "schedule.base": 1e-3}, {"schedule.peak": 3e-3, "schedule.base": 1e-2}):
        desk.study.enqueue_trial(values)
    search.search(directory, 2, 1, None, quiet, quiet4)
    diverged, impossible = trials_of(directory)
    assert diverged.user_attrs["ending"] == "nan"
    assert "not finite" in diverged.user_attrs["reason"]
    assert impossible.user_attrs["ending"] == "failed"
    assert "base 0.01 is above peak 0.003" in impossible.user_attrs["reason"]
    came = r"no trial has a score yet \(2 came to nothing, the last one: failed: .* is above peak"
    with pytest.raises(UserError, match=came):
        best_trial(directory.open_study(), directory.path)


class After(BasePruner):
    """Ends every trial after so many epochs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:  # noqa: ARG002
        return trial.last_step is not None and trial.last_step >= self.step


@pytest.mark.parametrize(("step", "where"), [(1, "fold 0, epoch 1"), (3, "fold 1, epoch 1")])
def test_a_bad_trial_ends_within_a_fold(
    tmp_path: Path, tiles: Survey, monkeypatch: pytest.MonkeyPatch, step: int, where: str
) -> None:
    monkeypatch.setattr(search, "pruner_of", lambda _: After(step))
    directory = tiny_study(tmp_path / "study", tiles, recipe(), CPU, space=SPACE)
    search.search(directory, 1, 1, None, quiet, quiet4)
    (trial,) = trials_of(directory)
    assert trial.state is TrialState.PRUNED
    assert trial.user_attrs["reason"].startswith(f"pruned: {where}: score ")
    assert trial.user_attrs["seconds"] > 0
    assert trial.last_step == step
    # What only a training that goes on would need is gone.
    assert not list(directory.trial_path(0).rglob("*.ckpt"))
    assert not list(directory.trial_path(0).rglob("snapshots/*.safetensors"))


def test_time_that_is_up_leaves_a_trial_that_goes_on(tmp_path: Path, tiles: Survey) -> None:
    directory = tiny_study(tmp_path / "study", tiles, recipe(), CPU, folds=[0], space=SPACE)
    desk = search.open_desk(directory)
    trial = desk.claim(1)
    assert trial is not None
    search.run_trial(desk, trial, Objective(directory, directory.request, tiles, 0.0, quiet4), quiet)
    assert trials_of(directory)[0].user_attrs["reason"].startswith("killed: the study's time was up")
    assert search.search(directory, 1, 1, None, quiet, quiet4)
    _, again = trials_of(directory)
    assert (again.state, again.user_attrs["run"]) == (TrialState.COMPLETE, "trial0000")
    # It went on at its second epoch: the first is in the log once, and reported.
    assert sorted(again.intermediate_values) == [1, 2]
    records = [json.loads(line)["epoch"] for line in RunDirectory(directory.trial_path(0)).fold(0).metrics.open()]
    assert records == [0, 1]


def test_several_objectives_are_kept_side_by_side(tmp_path: Path, tiles: Survey) -> None:
    objectives = ["score", "seconds", "parameters"]
    directory = tiny_study(tmp_path / "study", tiles, recipe(), CPU, folds=[0], space=SPACE, objectives=objectives)
    search.search(directory, 1, 1, None, quiet, quiet4)
    (trial,) = trials_of(directory)
    known = trial.user_attrs
    assert trial.values == [known["score"]["value"], known["seconds"], known["parameters"]]
    directions = [direction.name for direction in directory.open_study().directions]
    assert directions == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]


def quiet4(*_: object) -> None:
    """Reports nothing."""


def survey_path_of(folder: Path) -> Path:
    """Other tiles than the study's."""
    write_survey(folder / "other", tiles=60, labelled=48, seed=6, shape=(32, 32))
    return folder / "other"


def _weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.fold(0).averaged)
