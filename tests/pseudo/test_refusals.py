import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.evaluate import evaluate
from semisalt.inference.weights import save_weights
from semisalt.pseudo import rounds
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.request import Request, fixed, understand
from semisalt.pseudo.single import INFLATED
from semisalt.report.rounds import rounds_table
from semisalt.report.tables import results_table
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide
from semisalt.training.source import start_weights
from tests.pseudo.made import config_of, made_run, network_of
from tests.pseudo.staged import CONFIG, Training, request_of, start, text_of
from tests.tiny import tiny_survey


@pytest.fixture(scope="module")
def tiles() -> Survey:
    return tiny_survey(40, 14)


@pytest.fixture
def source(tmp_path: Path, tiles: Survey) -> RunDirectory:
    return made_run(tmp_path / "source", CONFIG, tiles)


@pytest.fixture(autouse=True)
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    return Training(monkeypatch)


# --- leaks


def begun(request: Request, survey: Survey, training: Training) -> RunDirectory:
    """Killed when round 1's labels are there and its training begins."""
    training.strike = "round1"
    with pytest.raises(KeyboardInterrupt):
        start(request, survey)
    return request.run(1)


def test_a_leak_planted_in_the_labels_is_refused_before_training(
    source: RunDirectory, tiles: Survey, training: Training
) -> None:
    request = request_of(source)
    file = label_directory(begun(request, tiles, training), 1).provenance_file
    kept = json.loads(file.read_text())
    victim = divide(tiles, CONFIG).validation(1).ids[3]
    file.write_text(json.dumps({**kept, "learned_from": [*kept["learned_from"], victim]}))
    with pytest.raises(UserError, match=rf"1 of fold 1's validation tiles \({victim}\)"):
        start(request, tiles, resume=True)
    assert ("round1", 0) in training.lessons
    assert ("round1", 1) not in training.lessons


def test_another_folds_labels_are_refused(source: RunDirectory, tiles: Survey, training: Training) -> None:
    request = request_of(source)
    run = begun(request, tiles, training)
    mine, other = (label_directory(run, fold).path for fold in (0, 1))
    shutil.rmtree(mine)
    shutil.copytree(other, mine)
    with pytest.raises(UserError, match="made for fold 1, not for fold 0"):
        start(request, tiles, resume=True)
    # Even where the fold's number is forged the labels that were learned from tell.
    file = label_directory(run, 0).provenance_file
    file.write_text(json.dumps({**json.loads(file.read_text()), "fold": 0}))
    with pytest.raises(UserError, match="of fold 0's validation tiles"):
        start(request, tiles, resume=True)
    assert not training.lessons


def test_pooled_labels_in_a_run_that_is_not_pooled_are_refused(
    source: RunDirectory, tiles: Survey, training: Training
) -> None:
    pooled = begun(request_of(source, pooled=True, path=source.path.parent / "pooled"), tiles, training)
    request = request_of(source)
    run = begun(request, tiles, training)
    mine = label_directory(run, 0)
    shutil.rmtree(mine.path)
    shutil.copytree(label_directory(pooled, 0).path, mine.path)
    with pytest.raises(UserError, match="these labels are pooled, this run's are its own models'"):
        start(request, tiles, resume=True)
    mine.provenance_file.write_text(json.dumps({**json.loads(mine.provenance_file.read_text()), "pooled": False}))
    with pytest.raises(UserError, match="of fold 0's validation tiles"):
        start(request, tiles, resume=True)
    assert not training.lessons


def test_weights_that_were_changed_after_they_had_labelled_are_refused(
    source: RunDirectory, tiles: Survey, training: Training
) -> None:
    """Planted: a round that begins with the weights before it would begin with others, of unknown provenance."""
    config = config_of(pseudo={"start": "previous"})
    request = request_of(source)
    training.strike = "round1"
    with pytest.raises(KeyboardInterrupt):
        start(request, tiles, config)
    save_weights(start_weights(source, 1), network_of(config, tiles, 7))
    with pytest.raises(UserError, match=r"safetensors was changed after it had labelled for .*labels/fold1"):
        start(request, tiles, config, resume=True)
    assert list(training.lessons) == [("round1", 0)]
    assert training.lessons["round1", 0].weights == start_weights(source, 0)


def test_changed_labels_are_refused_before_training(source: RunDirectory, tiles: Survey, training: Training) -> None:
    request = request_of(source)
    file = label_directory(begun(request, tiles, training), 0).path / "labels.csv"
    file.write_text(file.read_text().replace(" ", "  ", 1))
    with pytest.raises(UserError, match="was changed after it was written"):
        start(request, tiles, resume=True)


def test_pooled_scores_are_marked_wherever_they_stand(source: RunDirectory, tiles: Survey) -> None:
    request = request_of(source, pooled=True)
    outcome = start(request, tiles)
    assert [figures.inflated for figures in outcome.rounds] == [False, True, True]
    for number in (1, 2):
        run = request.run(number)
        assert run.inflated == run.results["inflated"] == INFLATED
        assert "INFLATED" in text_of(results_table(run))
        assert label_directory(run, 0).provenance().pooled
    shown = text_of(rounds_table(outcome))
    assert "INFLATED: pooled labels" in shown
    assert shown.count("(inflated)") == 2 + (outcome.best > 0)
    assert source.inflated is None
    assert "INFLATED" not in text_of(results_table_of(source, tiles))
    lines = json.loads((request.path / "rounds.json").read_text())["rounds"]
    assert [line["inflated"] for line in lines] == [False, True, True]
    # Whoever goes on from a pooled round without --pooled is refused, and with it is marked as well.
    later = replace(request, source=request.run(1).path, path=source.path.parent / "later", rounds=1)
    with pytest.raises(UserError, match="of fold 0's validation tiles"):
        start(replace(later, pooled=False), tiles)
    again = start(replace(later, path=source.path.parent / "again"), tiles)
    assert [figures.inflated for figures in again.rounds] == [True, True]


def results_table_of(run: RunDirectory, survey: Survey) -> Any:
    evaluate(run, survey.labelled)
    return results_table(run)


def test_a_round_inherits_the_mark_of_the_round_before(source: RunDirectory, tiles: Survey) -> None:
    """Whatever the labels say: a source with the mark gives rounds with the mark."""
    (source.path / "provenance.json").write_text(json.dumps({**source.provenance, "inflated": "for a reason"}))
    request = request_of(source)
    start(request, tiles)
    for number in (1, 2):
        assert request.run(number).results["inflated"] == "for a reason"


# --- what is refused at once


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"folds": (0, 2)}, "--folds 0, 2: the folds are 0 to 1"),
        ({"folds": ()}, "has no finished fold"),
        ({"pooled": True, "folds": (1,)}, "train two at least"),
    ],
)
def test_an_impossible_request_leaves_nothing(
    source: RunDirectory, tiles: Survey, changes: dict[str, Any], pattern: str
) -> None:
    request = request_of(source, rounds=1)
    with pytest.raises(UserError, match=pattern):
        start(replace(request, **changes), tiles)
    assert [path.name for path in request.path.iterdir()] == [".lock"]
    start(request, tiles)  # mended, it starts without further ado


@pytest.mark.parametrize(
    ("sections", "pattern"),
    [
        ({"seed": 2}, "divided the tiles differently:\n  seed: 1 in the run, 2 asked for"),
        ({"data": {"label_fraction": 0.25}}, r"data\.label_fraction"),
        ({"pseudo": {"use": "pretrain_finetune"}}, r"schedule\.kind: cosine"),
        ({"snapshots": {"select": "best"}}, r"the recipe lets the score .*snapshots\.select: best"),
        ({"training": {"patience": 3, "epochs": 2}}, r"training\.patience: 3"),
        (
            {"pseudo": {"start": "previous"}, "channels": {"ramp": "none"}},
            r"others: begin each round anew by --set pseudo.start=scratch .*\n  channels\.ramp: 'rows'",
        ),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_recipe_that_cannot_end_well_is_refused_before_training(
    source: RunDirectory, tiles: Survey, training: Training, sections: dict[str, Any], pattern: str, count: int
) -> None:
    request = request_of(source, rounds=count)
    with pytest.raises(UserError, match=pattern):
        start(request, tiles, config_of(**sections))
    assert [path.name for path in request.path.iterdir()] == [".lock"]
    assert not training.lessons


def test_a_recipe_whose_baseline_is_chosen_by_score_is_refused_before_it_is_trained(
    tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "run_training", None)
    request = Request(tmp_path / "rounds", 1, None, (0, 1), pooled=False, early_stop=True)
    with pytest.raises(UserError, match=r"set snapshots\.select to last"):
        start(request, tiles, config_of(snapshots={"select": "best"}))


def test_round_0_is_supervised_or_given(tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_training", None)
    request = Request(tmp_path / "rounds", 1, None, (0, 1), pooled=False, early_stop=True)
    with pytest.raises(UserError, match=r"method: mean_teacher: round 0 is a supervised run here; .* by --from"):
        start(request, tiles, CONFIG.model_copy(update={"method": "mean_teacher"}))


def test_sources_that_do_not_fit(source: RunDirectory, tiles: Survey) -> None:
    with pytest.raises(UserError, match="was made from other data"):
        start(request_of(source), tiny_survey(40, 15))
    source.fold(1).result.unlink()
    with pytest.raises(UserError, match="fold 1 not finished; go on with it by --resume, or choose other --folds"):
        start(request_of(source), tiles)
    assert len(start(request_of(source, folds=(0,), rounds=1), tiles).rounds) == 2


def test_a_source_chosen_by_score_is_refused(tiles: Survey, tmp_path: Path, training: Training) -> None:
    best = made_run(tmp_path / "source", config_of(snapshots={"select": "best"}), tiles)
    with pytest.raises(UserError, match=r"source lets the score .*snapshots\.select: best"):
        start(request_of(best, rounds=1), tiles)
    assert not training.lessons


def test_no_unlabelled_tile(tiles: Survey, tmp_path: Path) -> None:
    config = config_of(data={"label_fraction": 1.0})
    bare = replace(tiles, unlabelled=tiles.unlabelled.subset(np.array([], np.int64)))
    whole = made_run(tmp_path / "source", config, bare)
    with pytest.raises(UserError, match="no unlabelled tiles to learn from"):
        start(request_of(whole), bare, config)
    # Labels that were set aside are tiles to learn from, though there is nothing for the rounds to agree on.
    some = made_run(tmp_path / "some", CONFIG, bare)
    outcome = start(request_of(some, path=tmp_path / "two"), bare)
    assert outcome.rounds[2].taken is not None
    assert "all 2 rounds" in outcome.ended


def test_rounds_that_ended_before_the_first_keep_no_recipe_to_go_on_with(source: RunDirectory, tmp_path: Path) -> None:
    """Planted: they would go on with the defaults, or with round 0's recipe, in place of the one that was given."""
    path = tmp_path / "rounds"
    write_json(path / "request.json", fixed(request_of(source)))
    asked: dict[str, Any] = {"rounds": 2, "folds": None, "pooled": False, "early_stop": False, "resume": True}
    with pytest.raises(UserError, match=r"rounds ended before its first round, .*: start it without --resume"):
        understand(path, None, None, (), **asked)


def test_resuming_what_is_not_there_or_otherwise(source: RunDirectory, tiles: Survey, training: Training) -> None:
    request = request_of(source, rounds=1)
    with pytest.raises(UserError, match="no rounds to go on with: start them without --resume"):
        start(request, tiles, resume=True)
    start(request, tiles)
    with pytest.raises(UserError, match="already holds rounds: add --resume"):
        start(request, tiles)
    for changes, line in (
        ({"folds": (0,)}, r"folds: \[0, 1\] in the run, \[0\] asked for"),
        ({"pooled": True}, "pooled: False in the run, True asked for"),
        ({"source": None}, "source: '.*source' in the run, None asked for"),
    ):
        with pytest.raises(UserError, match=line):
            start(replace(request, **changes), tiles, resume=True)
    with pytest.raises(UserError, match=r"round1 cannot be resumed.*\n  pseudo.decided: 0.0 in the run, 0.5 asked for"):
        start(request, tiles, config_of(pseudo={"decided": 0.5}), resume=True)
    training.lessons.clear()
    start(request, tiles, resume=True)
    assert not training.lessons
