"""Studies of level threshold: on a finished run's tiles, without training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import create_trial

from semisalt.data.channels import Channels
from semisalt.data.read import load_survey
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.build import build_network
from semisalt.inference.evaluate import load_oof
from semisalt.inference.outputs import predict
from semisalt.inference.predict import Predictor
from semisalt.inference.threshold import Operating, apply
from semisalt.inference.weights import load_weights
from semisalt.metrics import precision
from semisalt.recipe import load_config
from semisalt.run import RunDirectory, read_csv, read_json
from semisalt.studies.begin import begin_threshold
from semisalt.studies.best import best_trial, searched_recipe, write_best
from semisalt.studies.command import prepare, run_study
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.found import found_recipe
from semisalt.studies.request import StudyFile
from semisalt.studies.search import open_desk
from semisalt.studies.space import Parameter
from semisalt.studies.threshold import check_threshold_space, material_of, point_of, views_of
from semisalt.training.fit import Trainer
from semisalt.training.job import run_training
from tests.studies.made import quiet, survey_path, trials_of
from tests.tiny import tiny_config

CPU = torch.device("cpu")
SPACE: dict[str, Any] = {
    "threshold": {"kind": "float", "low": 0.3, "high": 0.7},
    "min_salt": {"kind": "int", "low": 0, "high": 40},
    "min_hole": {"kind": "int", "low": 0, "high": 40},
    "snapshots.keep": {"kind": "int", "low": 1, "high": 2},
    "snapshots.decay": {"kind": "float", "low": 0.5, "high": 1},
    "inference.flip": {"kind": "categorical", "choices": [True, False]},
}
PLAIN = {key: value for key, value in SPACE.items() if "." not in key}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return load_survey(survey_path(tmp_path_factory.mktemp("tiles")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, survey: Survey) -> RunDirectory:
    """Both folds of the tiny recipe, three quarters of the labels."""
    path = tmp_path_factory.mktemp("threshold") / "run"
    config = tiny_config(
        channels={"depth": "auto"},
        data={"label_fraction": 0.75},
        training={"epochs": 2, "batch": 5},
        snapshots={"combine": "weights"},
    )
    run_training(path, survey, config, folds=None, resume=False, announce=quiet)
    return RunDirectory.open(path)


def begun(path: Path, run: RunDirectory, space: dict[str, Any], **keys: Any) -> StudyDirectory:
    file = StudyFile.model_validate({"level": "threshold", "space": space, "holdout": 0.3, **keys})
    return begin_threshold(path, Path("study.yaml"), file, run, None)


def searched(directory: StudyDirectory, total: int) -> dict[str, Any]:
    result = run_study(directory, total, 1, None, CPU, quiet, quiet)  # type: ignore[arg-type]  # nothing is reported
    assert result is not None
    return result


@pytest.mark.parametrize("space", [PLAIN, SPACE], ids=["plain", "snapshots and mirroring"])
def test_a_study_searches_predictions_and_is_judged_on_others(
    tmp_path: Path, run: RunDirectory, survey: Survey, monkeypatch: pytest.MonkeyPatch, space: dict[str, Any]
) -> None:
    monkeypatch.setattr(Trainer, "fit", None)  # nothing is trained
    directory = begun(tmp_path / "study", run, space)
    result = searched(directory, 25)
    trials = trials_of(directory)
    assert len(trials) == 25
    material = material_of(run, survey.labelled, 0.3, 0)
    assert not (material.search & material.holdout).any()
    assert result["tiles"] == material.holdout.sum() == directory.request.data["holdout_tiles"]
    # Labels that the run did not have are not searched on either.
    assert material.search.sum() < (~material.holdout).sum()
    best = best_trial(directory.open_study(), directory.path)
    assert result["best_trial"] == best.number
    assert result["search_score"]["value"] == pytest.approx(best.values[0])
    assert best.values[0] == max(trial.values[0] for trial in trials)
    probabilities, tiles, _ = load_oof(run, survey.labelled)
    assert tiles.masks is not None
    if space is PLAIN:
        # The score by whole maps, on the tiles that may be searched.
        for trial in trials[:5]:
            _, operating = point_of(trial.params, run)
            scores = precision(apply(probabilities, operating), tiles.masks)
            assert trial.values[0] == pytest.approx(scores[material.search].mean(), abs=1e-12)
    # What it is held against is what the run predicts, by its averaged weights, whoever votes in the search.
    scores = precision(probabilities > 127, tiles.masks)[material.holdout]
    assert result["default"]["value"] == pytest.approx(scores.mean())
    # Going on: the same trials stay, more come, and the same seed gives the same ones.
    searched(directory, 30)
    again = begun(tmp_path / "again", run, space)
    searched(again, 30)
    one, two = trials_of(directory), trials_of(again)
    assert [trial.params for trial in one] == [trial.params for trial in two]
    assert [trial.values for trial in one[:25]] == [trial.values for trial in trials]
    assert read_json(directory.path / "holdout.json")["tiles"] == result["tiles"]


def test_the_best_point_is_a_recipe(tmp_path: Path, run: RunDirectory) -> None:
    directory = begun(tmp_path / "study", run, SPACE)
    searched(directory, 12)
    best = best_trial(directory.open_study(), directory.path)
    config = load_config(write_best(directory, best))
    assert config.inference.thresholds == (pytest.approx(best.params["threshold"], abs=1e-6),)
    assert config.inference.min_salts == (best.params["min_salt"],)
    assert config.inference.flip is best.params["inference.flip"]
    assert config.snapshots.keep == best.params["snapshots.keep"]
    assert config.snapshots.combine == "predictions"
    assert config.model == run.config.model


@pytest.mark.parametrize("keep", [1, 2])
def test_a_finished_run_predicts_as_the_best_trial_says(
    keep: int, tmp_path: Path, run: RunDirectory, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begun(tmp_path / "study", run, SPACE)
    searched(directory, 12)
    point = {"threshold": 0.41, "min_salt": 7, "min_hole": 5}
    values = {"snapshots.keep": keep, "snapshots.decay": 0.6, "inference.flip": False}
    best = create_trial(
        params=point | values,
        distributions={key: Parameter.model_validate(SPACE[key]).distribution() for key in SPACE},
        user_attrs={"operating": point},
        value=2,
    )
    monkeypatch.setattr("semisalt.studies.found.best_trial", lambda *_: best)
    by = found_recipe(directory, run)
    tiles = survey.unlabelled.subset(np.arange(6))
    found = predict(run, tiles, directory.path / "unlabelled", CPU, quiet, by)

    # By hand: the older snapshot .6 as loud, not mirrored, then the folds' mean, then the cut.
    config, channels = run.config, Channels(**run.channels)
    network = build_network(config, channels, weights="none").to(memory_format=torch.channels_last)
    predictor = Predictor(channels, CPU, "fp32", config.inference.batch, False)
    folds = []
    for fold in (0, 1):
        maps = []
        for snapshot in run.fold_result(fold)["snapshots"]:
            load_weights(run.fold(fold).snapshots / snapshot["file"], network)
            maps.append(np.rint(255 * predictor(network, tiles)))
        older = 0.6 if keep == 2 else 0.0
        folds.append(np.rint((older * maps[0] + maps[1]) / (1 + older)))
    mean = np.rint(np.mean(folds, axis=0)) * ~tiles.blank[:, None, None]
    assert np.abs(found.probabilities - mean).max() <= 1  # halves may be rounded either way
    assert (found.probabilities == mean).mean() > 0.95
    assert np.array_equal(found.masks, apply(found.probabilities, Operating(**point)))

    own = predict(run, tiles, directory.path / "own", CPU, quiet)
    assert not np.array_equal(own.probabilities, found.probabilities)
    # Another best trial is not given what this one's voters said.
    louder = by.snapshots.model_copy(update={"keep": 2, "decay": 1.0})
    mirrored = by.inference.model_copy(update={"flip": True})
    for other in ({"snapshots": louder}, {"inference": mirrored}):
        predict(run, tiles, directory.path / "unlabelled", CPU, quiet, by)
        again = predict(run, tiles, directory.path / "unlabelled", CPU, quiet, by.model_copy(update=other))
        assert not np.array_equal(again.probabilities, found.probabilities)
    # Weights that are gone are named.
    gone = run.fold(1).snapshots / run.fold_result(1)["snapshots"][-1]["file"]
    kept = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(UserError, match=rf"{gone.name} is missing: bring the file back"):
            predict(run, tiles, directory.path / "other", CPU, quiet, by)
    finally:
        gone.write_bytes(kept)


def test_a_recipe_of_pseudo_labels_is_found_without_mirroring() -> None:
    config = tiny_config(pseudo={"mirrored": 0.8, "stability": 0.5}, snapshots={"keep": 2})
    values: dict[str, Any] = {"threshold": 0.4, "snapshots.keep": 1, "inference.flip": False}
    trial = create_trial(
        params=values,
        distributions={key: Parameter.model_validate(SPACE[key]).distribution() for key in values},
        user_attrs={"operating": {"threshold": 0.4, "min_salt": 0, "min_hole": 0}},
        value=1,
    )
    found = searched_recipe(config, trial)
    assert (found.pseudo.mirrored, found.pseudo.stability) == (0, 0)
    assert (found.inference.flip, found.snapshots.keep) == (False, 1)


def test_views_are_predicted_once(run: RunDirectory, survey: Survey) -> None:
    space = {key: Parameter.model_validate(value) for key, value in SPACE.items()}
    told: list[str] = []
    first = views_of(space, run, survey.labelled, told.append)
    before = len(told)
    second = views_of(space, run, survey.labelled, told.append)
    assert len(told) == before
    for one, two in zip(first, second, strict=True):
        assert one.maps.keys() == two.maps.keys() == {(flip, voter) for flip in (False, True) for voter in (0, 1)}
        assert all(np.array_equal(one.maps[key], two.maps[key]) for key in one.maps)
    # The newest snapshot's mirrored words are what the run's own votes are made of.
    votes = [view.maps for view in first]
    weights = np.array([0.8, 1.0]) / 1.8
    _, tiles, _ = load_oof(run, survey.labelled)
    assert tiles.masks is not None
    mean = np.concatenate([np.rint(weights[0] * maps[True, 0] + weights[1] * maps[True, 1]) for maps in votes])
    kept = [float(row["predictions"]) for fold in (0, 1) for row in read_csv(run.fold(fold).tile_scores)]
    assert precision(mean > 127, tiles.masks).tolist() == pytest.approx(kept, abs=1e-9)


def test_other_weights_are_another_study(tmp_path: Path, run: RunDirectory) -> None:
    directory = begun(tmp_path / "study", run, PLAIN)
    file = run.fold(0).probabilities
    kept = file.read_bytes()
    try:
        np.save(file, 255 - np.load(file))
        with pytest.raises(UserError, match="data: weights: "):
            begun(directory.path, run, PLAIN)
        # Nor does it go on by its directory: other tiles would be searched and held out.
        with pytest.raises(UserError, match=r"has other predictions than .*study was begun with"):
            searched(directory, 5)
        with pytest.raises(UserError, match=r"study searched the predictions that .*run has others"):
            found_recipe(directory, run)
    finally:
        file.write_bytes(kept)
    with pytest.raises(UserError, match="space: min_hole: "):
        begun(directory.path, run, {**PLAIN, "min_hole": {"kind": "int", "low": 0, "high": 4}})
    assert begun(directory.path, run, PLAIN) == directory


def test_an_inflated_run_is_not_searched(tmp_path: Path, run: RunDirectory) -> None:
    pooled = tmp_path / "pooled"
    shutil.copytree(run.path, pooled)
    write_json(pooled / "provenance.json", {**run.provenance, "inflated": "its labels know the tiles"})
    with pytest.raises(UserError, match="nothing can be chosen or judged by its out-of-fold scores: its labels know"):
        begun(tmp_path / "study", RunDirectory.open(pooled), PLAIN)


def test_a_study_that_ended_before_its_first_trial_says_how_it_goes_on(tmp_path: Path, run: RunDirectory) -> None:
    directory = begun(tmp_path / "study", run, PLAIN)

    def go_on() -> None:
        prepare(directory.path, name=None, data=None, finished=None, storage=None, device=CPU, announce=quiet)

    way_out = r"study has no trials yet: go on with: semisalt study run YAML --run .*study"
    with pytest.raises(UserError, match=way_out):
        go_on()
    open_desk(directory)  # killed when the database was made
    with pytest.raises(UserError, match=way_out):
        go_on()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"min_salt": SPACE["min_salt"]}, "'threshold' is missing"),
        ({**PLAIN, "loss.switch_epoch": SPACE["min_salt"]}, "not to be had without training"),
        ({**PLAIN, "min_hole": SPACE["threshold"]}, "of kind int, not float"),
        ({"threshold": {"kind": "float", "low": 0, "high": 1}}, "leaves 0.01 to 0.99"),
        ({**PLAIN, "inference.flip": {"kind": "categorical", "choices": [1, 0]}}, "true and false"),
        ({**PLAIN, "min_hole": {**SPACE["min_hole"], "when": {"min_salt": 3}}}, "min_hole: when: conditions are for"),
    ],
    ids=str,
)
def test_a_space_is_checked(space: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_threshold_space("study.yaml", {key: Parameter.model_validate(value) for key, value in space.items()})


def test_more_snapshots_than_there_are_are_refused(tmp_path: Path, run: RunDirectory) -> None:
    many = {**SPACE, "snapshots.keep": {"kind": "int", "low": 1, "high": 3}}
    with pytest.raises(UserError, match=r"study\.yaml: space: snapshots\.keep: up to 3, .* has 2: set high to 2"):
        begun(tmp_path / "study", run, many)
    # Nothing is left that would stand in the way of the mended file.
    assert not (tmp_path / "study" / "study.yaml").exists()
    begun(tmp_path / "study", run, SPACE)
