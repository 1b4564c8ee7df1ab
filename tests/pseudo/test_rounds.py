import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.data.tiles import Survey
from semisalt.errors import NotFiniteError, RefusedError, UserError
from semisalt.inference.ensemble import voters_of
from semisalt.pseudo import labelling, rounds, single
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.labels import verdicts_of
from semisalt.pseudo.request import folds_of, standing, understand
from semisalt.report.rounds import rounds_table
from semisalt.run import RunDirectory, read_csv
from semisalt.training.crossval import divide
from tests.pseudo.made import config_of, finish_folds, made_run
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


def test_each_round_learns_from_the_one_before(source: RunDirectory, tiles: Survey, training: Training) -> None:
    request = request_of(source)
    outcome = start(request, tiles)
    division = divide(tiles, CONFIG)
    for number in (1, 2):
        run, before = request.run(number), request.run(number - 1)
        assert before.path == (source.path if number == 1 else request.path / "round1")
        for fold in (0, 1):
            kept = label_directory(run, fold).provenance()
            assert kept.source == str(before.path)
            assert all(name.startswith(f"fold{fold}/") for name in kept.models)
            lesson = training.lessons[f"round{number}", fold]
            taken = [r["id"] for r in verdicts_of(label_directory(run, fold)) if r["verdict"] == "taken"]
            assert list(lesson.tiles.ids) == taken
            assert not set(taken) & set(division.validation(fold).ids)
            assert lesson.shares == (1 / 3, 1 / 3)
            assert lesson.weights is None
        assert "inflated" not in run.results
        assert run.provenance["round"] == number
        assert run.provenance["labels_by"] == str(before.path)
    kept_rounds = json.loads((request.path / "rounds.json").read_text())
    assert [line["round"] for line in kept_rounds["rounds"]] == [0, 1, 2]
    assert kept_rounds["best"] == outcome.best == 0
    assert outcome.ended == "all 2 rounds were run"


def test_the_figures_of_a_round(source: RunDirectory, tiles: Survey, training: Training) -> None:
    """All is right in round 0, 6 of 39 tiles are wrong in round 1, 2 in round 2."""
    training.wrong = {"round1": 3, "round2": 1}
    outcome = start(request_of(source), tiles)
    scores = [figures.score.value for figures in outcome.rounds]
    assert scores == pytest.approx([1, 1 - 6 / 39, 1 - 2 / 39])
    first, second = outcome.rounds[1:]
    assert first.minus_first is not None
    assert second.minus_first is not None
    assert second.minus_before is not None
    assert first.minus_first.value == pytest.approx(-6 / 39)
    assert second.minus_before.value == pytest.approx(4 / 39)
    assert second.minus_first.value == pytest.approx(-2 / 39)
    assert outcome.rounds[0].minus_first is None
    assert outcome.rounds[0].taken is None


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_round_that_gains_nothing_ends_the_run(
    source: RunDirectory, tiles: Survey, training: Training, early_stop: bool
) -> None:
    training.wrong = {"round1": 0, "round2": 3, "round3": 1}
    finish_folds(source, tiles, (0, 1), wrong=9)
    outcome = start(request_of(source, rounds=3, early_stop=early_stop), tiles)
    assert outcome.best == 1
    if early_stop:
        assert [figures.round for figures in outcome.rounds] == [0, 1, 2]
        assert outcome.ended.startswith("round 2 does not beat round 1 within its interval (-.154 [")
        assert outcome.ended.endswith("--no-early-stop goes on")
        assert not (source.path.parent / "rounds" / "round3").exists()
    else:
        assert [figures.round for figures in outcome.rounds] == [0, 1, 2, 3]
    shown = text_of(rounds_table(outcome))
    assert f"Result: round 1, {source.path.parent}/rounds/round1, +.462" in " ".join(shown.split()).replace("- ", "-")


def test_a_run_that_stopped_early_goes_on_where_it_was(source: RunDirectory, tiles: Survey, training: Training) -> None:
    stopped = start(request_of(source, rounds=2, early_stop=True), tiles)
    assert len(stopped.rounds) == 2
    before = dict(training.lessons)
    outcome = start(request_of(source, rounds=3), tiles, resume=True)
    assert len(outcome.rounds) == 4
    assert {key for key in training.lessons if training.lessons[key] is not before.get(key)} == {
        (f"round{number}", fold) for number in (2, 3) for fold in (0, 1)
    }


def test_a_later_refusal_does_not_lose_the_rounds_before(
    source: RunDirectory, tiles: Survey, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = labelling._refuse_collapse

    def collapsed(task: Any, figures: dict[str, float], least_salt: float) -> None:
        refuse(task, {**figures, "foreground": 0.0} if task.source.path.name == "round1" else figures, least_salt)

    monkeypatch.setattr(labelling, "_refuse_collapse", collapsed)
    training.wrong = {"round1": 2}
    outcome = start(request_of(source), tiles)
    rounds = source.path.parent / "rounds"
    kept = json.loads((rounds / "rounds.json").read_text())
    assert [line["round"] for line in kept["rounds"]] == [0, 1]
    assert kept["ended"] == outcome.ended
    assert "round 2 was refused" in outcome.ended
    assert "round1, fold 0: its predictions have collapsed" in outcome.ended
    assert (rounds / "best").resolve() == Path(kept["rounds"][kept["best"]]["run"]).resolve()


def test_a_leak_in_a_later_round_is_an_error_and_no_end(
    source: RunDirectory, tiles: Survey, training: Training
) -> None:
    """Planted: round 2's labels, found when it goes on, come from models that know a validation tile."""
    request = request_of(source)
    training.strike = "round2"
    with pytest.raises(KeyboardInterrupt):
        start(request, tiles)
    file = label_directory(request.run(2), 0).provenance_file
    kept = json.loads(file.read_text())
    victim = divide(tiles, CONFIG).validation(0).ids[0]
    file.write_text(json.dumps({**kept, "learned_from": [*kept["learned_from"], victim]}))
    with pytest.raises(UserError, match=rf"1 of fold 0's validation tiles \({victim}\)"):
        start(request, tiles, resume=True)
    assert "round 1 is over" in json.loads((request.path / "rounds.json").read_text())["ended"]


def test_a_later_round_that_diverges_ends_the_run(
    source: RunDirectory, tiles: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = single.train_folds

    def diverge(run: RunDirectory, *rest: Any) -> None:
        if run.path.name == "round2":
            raise NotFiniteError("the loss is not finite")
        train(run, *rest)

    monkeypatch.setattr(single, "train_folds", diverge)
    outcome = start(request_of(source), tiles)
    assert len(outcome.rounds) == 2
    assert outcome.ended == "round 2 diverged: the loss is not finite"


def test_going_on_loses_no_round_on_the_way(
    source: RunDirectory, tiles: Survey, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: killed while finished rounds are gone through again; rounds.json and best were those of round 1 then."""
    training.wrong = {"round1": 2}
    request = request_of(source)
    finish_folds(source, tiles, (0, 1), wrong=5)
    start(request, tiles)
    kept = (request.path / "rounds.json").read_text()
    monkeypatch.setattr(rounds, "refuse_collapsed_round", lambda run, _: _kill_at(run, "round2"))
    with pytest.raises(KeyboardInterrupt):
        start(request, tiles, resume=True)
    assert (request.path / "rounds.json").read_text() == kept
    assert (request.path / "best").resolve().name == "round2"


def test_going_on_is_not_ended_by_a_round_that_stands(source: RunDirectory, tiles: Survey, training: Training) -> None:
    """As directories from before `early_stop` was kept: round 1 gains nothing, round 2 is there all the same."""
    training.wrong = {"round1": 3, "round2": 1}
    request = request_of(source)
    start(request, tiles)
    note = request.path / "request.json"
    note.write_text(json.dumps({key: json.loads(note.read_text())[key] for key in ("source", "folds", "pooled")}))
    again, _, _ = understand(
        request.path, None, None, (), rounds=None, early_stop=None, folds=None, pooled=False, resume=True
    )
    assert (again.rounds, again.early_stop) == (3, True)
    outcome = start(again, tiles, resume=True)
    assert [figures.round for figures in outcome.rounds] == [0, 1, 2, 3]


def test_rounds_that_were_removed_are_not_told_of(
    source: RunDirectory, tiles: Survey, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.wrong = {"round1": 4, "round2": 1}
    finish_folds(source, tiles, (0, 1), wrong=6)
    request = request_of(source)
    start(request, tiles)
    assert standing(request.path) == 2
    shutil.rmtree(request.run(2).path)
    assert standing(request.path) == 1
    monkeypatch.setattr(rounds, "refuse_collapsed_round", lambda run, _: _refuse_at(run, "round2"))
    start(request, tiles, resume=True)
    assert [line["round"] for line in json.loads((request.path / "rounds.json").read_text())["rounds"]] == [0, 1]
    assert (request.path / "best").resolve().name == "round1"
    for number in (1, 2):
        shutil.rmtree(request.run(number).path)
    training.strike = "round1"
    with pytest.raises(KeyboardInterrupt):
        start(request, tiles)  # anew
    assert not (request.path / "rounds.json").exists()


def _refuse_at(run: RunDirectory, name: str) -> None:
    if run.path.name == name:
        raise RefusedError("it sees nothing")


def test_a_half_trained_fold_does_not_go_on_with_other_labels(
    source: RunDirectory, tiles: Survey, training: Training
) -> None:
    request = request_of(source)
    training.strike = "round1"
    with pytest.raises(KeyboardInterrupt):
        start(request, tiles)
    run = request.run(1)
    run.fold(1).path.mkdir(parents=True)
    run.fold(1).checkpoint.write_bytes(b"half of a training")
    shutil.rmtree(label_directory(run, 1).path)
    with pytest.raises(UserError, match=r"labels/fold1 is gone, .*: remove .*round1/fold1, too"):
        start(request, tiles, resume=True)
    run.fold(1).checkpoint.unlink()
    start(request, tiles, resume=True)


def test_a_limit_that_no_round_reads_does_not_stand_in_their_way(source: RunDirectory, tiles: Survey) -> None:
    """Planted: it would be another recipe, and the rounds could not go on by either."""
    request = request_of(source, rounds=1)
    start(request, tiles)
    before = (source.path / "config.yaml").read_bytes()
    start(request, tiles, config_of(unlabelled={"least_salt": 0.1}), resume=True)
    assert (source.path / "config.yaml").read_bytes() == before
    start(request, tiles, resume=True)


def test_where_labels_come_from_is_known_in_other_folders_too(
    source: RunDirectory, tiles: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that was given by a relative path, and one that has moved with the rounds."""
    monkeypatch.chdir(source.path.parent)
    request = request_of(RunDirectory(Path("source")), rounds=1)
    start(request, tiles)
    monkeypatch.chdir("/")
    home = source.path.parent
    run = RunDirectory(home / request.path / "round1")
    assert run.builds_on is not None
    assert run.builds_on.path == source.path.resolve()
    assert label_directory(run, 0).provenance().source == str(source.path.resolve())
    moved = home.parent / f"{home.name}-moved"
    home.rename(moved)
    later = RunDirectory(moved / request.path / "round1").builds_on
    assert later is not None
    assert later.path == moved / "source"
    moved.rename(home)


def _kill_at(run: RunDirectory, name: str) -> None:
    if run.path.name == name:
        raise KeyboardInterrupt


def test_rounds_go_on_as_they_were_asked_for(source: RunDirectory, tiles: Survey) -> None:
    """Planted: without --no-early-stop they were ended by the rule that had been switched off."""
    request = request_of(source, rounds=2, early_stop=False)
    start(request, tiles)
    kept: dict[str, Any] = {"folds": None, "pooled": False, "resume": True}
    for asked, expected in (
        ({"rounds": None, "early_stop": None}, (2, False)),
        ({"rounds": 4, "early_stop": None}, (4, False)),
        ({"rounds": None, "early_stop": True}, (2, True)),
    ):
        again, _, _ = understand(request.path, None, None, (), **asked, **kept)
        assert (again.rounds, again.early_stop) == expected
    fresh, _, _ = understand(
        source.path.parent / "fresh",
        source.path,
        None,
        (),
        rounds=None,
        early_stop=None,
        folds=None,
        pooled=False,
        resume=False,
    )
    assert (fresh.rounds, fresh.early_stop) == (3, True)
    with pytest.raises(UserError, match="already has 2 rounds: go on with --rounds 2 or more"):
        start(replace(request, rounds=1), tiles, resume=True)


def test_half_swap_takes_the_halves_in_turn(source: RunDirectory, tiles: Survey, training: Training) -> None:
    request = request_of(source, rounds=3, folds=(0,))
    start(request, tiles, config_of(pseudo={"use": "half_swap"}))
    taken = [set(training.lessons[f"round{number}", 0].tiles.ids) for number in (1, 2, 3)]
    assert not taken[0] & taken[1]
    assert taken[0] == taken[2]
    assert len(taken[0] | taken[1]) == 14 - 1 + len(divide(tiles, CONFIG).unlabelled(0))
    assert training.lessons["round1", 0].shares == (0.5, 0.5)


def test_start_previous_begins_with_the_same_folds_newest_weights(
    source: RunDirectory, tiles: Survey, training: Training
) -> None:
    request = request_of(source)
    start(request, tiles, config_of(pseudo={"start": "previous"}))
    for number in (1, 2):
        for fold in (0, 1):
            before = request.run(number - 1)
            expected = before.fold(fold).snapshots / "epoch0001.safetensors"
            assert training.lessons[f"round{number}", fold].weights == expected == voters_of(before, fold)[-1][0]


def test_soft_labels_are_probabilities(source: RunDirectory, tiles: Survey, training: Training) -> None:
    start(request_of(source, rounds=1, folds=(1,)), tiles, config_of(pseudo={"labels": "soft"}))
    lesson = training.lessons["round1", 1]
    assert len(np.unique(lesson.tiles.targets)) > 20
    assert lesson.tiles.masks is not None
    assert set(np.unique(lesson.tiles.masks)) == {0, 1}
    # The hard form is what Lovász makes of a soft target, whatever the threshold of hard labels would be.
    np.testing.assert_array_equal(lesson.tiles.masks, lesson.tiles.targets / 255 > 0.5)


def test_the_source_is_free_while_a_round_is_trained(
    source: RunDirectory, tiles: Survey, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may predict it, or learn from it, too."""
    free: list[bool] = []

    def train(*arguments: Any) -> None:
        with source.lock():
            free.append(True)
        training(*arguments)

    monkeypatch.setattr(single, "train_folds", train)
    start(request_of(source, rounds=1), tiles)
    assert free == [True]


def test_folds_are_those_asked_for_else_the_finished_ones_else_all(source: RunDirectory) -> None:
    assert folds_of(source, [1, 0, 1], CONFIG) == (0, 1)
    source.fold(0).result.unlink()
    assert folds_of(source, None, CONFIG) == (1,)
    assert folds_of(None, None, CONFIG) == (0, 1)


def test_the_rounds_divide_the_tiles_as_the_source(source: RunDirectory, tiles: Survey) -> None:
    request = request_of(source, rounds=1)
    start(request, tiles)
    assert read_csv(request.run(1).path / "folds.csv") == read_csv(source.path / "folds.csv")


def test_a_sources_own_predictions_outlive_rounds_on_another_sample(source: RunDirectory, tiles: Survey) -> None:
    start(request_of(source, rounds=1), tiles)
    own = {path: path.read_bytes() for path in source.unlabelled.iterdir()}
    assert len(own) > 8
    data = CONFIG.data.model_copy(update={"unlabelled_limit": 9})
    other = replace(request_of(source, rounds=1), path=source.path.parent / "other")
    start(other, tiles, CONFIG.model_copy(update={"data": data}))
    assert {path: path.read_bytes() for path in source.unlabelled.iterdir()} == own
    beside = source.maps_of(9, CONFIG.seed)
    assert len(np.load(beside / "fold0.npy")) == 9
    assert source.maps_of(None, 7) == source.unlabelled
