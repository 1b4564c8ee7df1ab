import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.inference.ensemble import voters_of
from semisalt.pseudo import labelling, rounds
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.labels import verdicts_of
from semisalt.pseudo.request import Request, folds_of
from semisalt.pseudo.rounds import INFLATED, Outcome, run_pseudo
from semisalt.report.rounds import rounds_table
from semisalt.report.tables import results_table
from semisalt.run import RunDirectory, read_csv
from semisalt.training.crossval import LessonOf, divide
from semisalt.training.lesson import Lesson
from tests.pseudo.made import config_of, finish_folds, made_run
from tests.tiny import tiny_survey

CONFIG = config_of()


@pytest.fixture(scope="module")
def tiles() -> Survey:
    return tiny_survey(40, 14)


@pytest.fixture
def source(tmp_path: Path, tiles: Survey) -> RunDirectory:
    return made_run(tmp_path / "source", CONFIG, tiles)


class Training:
    """Takes the place of train_folds: notes what a fold would learn from, and leaves made-up results.

    `wrong` gives for each round's name how many out-of-fold tiles of a fold are got wrong; `strike` names a round
    whose training is killed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lessons: dict[tuple[str, int], Lesson] = {}
        self.wrong: dict[str, int] = {}
        self.strike: str | None = None
        monkeypatch.setattr(rounds, "train_folds", self)

    def __call__(
        self,
        run: RunDirectory,
        survey: Survey,
        folds: Any,
        _build: Any,
        _accelerator: Any,
        lesson_of: LessonOf,
    ) -> None:
        name = run.path.name
        if name == self.strike:
            self.strike = None
            raise KeyboardInterrupt
        for fold in folds:
            if not run.fold(fold).result.exists():
                self.lessons[name, fold] = lesson_of(fold, divide(survey, run.config))
        seed = 1000 * int(name.removeprefix("round"))
        finish_folds(run, survey, folds, seed=seed, wrong=self.wrong.get(name, 0))


@pytest.fixture(autouse=True)
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    return Training(monkeypatch)


def request_of(source: RunDirectory, **changes: Any) -> Request:
    wanted = Request(source.path.parent / "rounds", 2, source.path, (0, 1), pooled=False, early_stop=False)
    return replace(wanted, **changes)


def start(request: Request, survey: Survey, config: Config = CONFIG, *, resume: bool = False) -> Outcome:
    return run_pseudo(request, survey, config, resume=resume, announce=lambda _: None, report=lambda *_: None)


def text_of(table: Any, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


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
        assert outcome.ended.startswith("round 2 does not beat round 1 within its interval (-0.154 [")
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

    def collapsed(task: Any, figures: dict[str, float]) -> None:
        refuse(task, {**figures, "foreground": 0.0} if task.source.path.name == "round1" else figures)

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
    assert "INFLATED: labels are pooled" in shown
    assert shown.count("(inflated)") == 2
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
    rounds.evaluate(run, survey.labelled)
    return results_table(run)


def test_a_round_inherits_the_mark_of_the_round_before(source: RunDirectory, tiles: Survey) -> None:
    """Whatever the labels say: a source with the mark gives rounds with the mark."""
    (source.path / "provenance.json").write_text(json.dumps({**source.provenance, "inflated": "for a reason"}))
    request = request_of(source)
    start(request, tiles)
    for number in (1, 2):
        assert request.run(number).results["inflated"] == "for a reason"


# --- uses


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


# --- what is refused at once


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"folds": (0, 2)}, r"--folds \[0, 2\]: the folds are 0 to 1"),
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
        ({"pseudo": {"start": "previous"}, "channels": {"ramp": "none"}}, r"others:\n  channels\.ramp: 'rows'"),
    ],
)
def test_a_recipe_that_cannot_end_well_is_refused_before_training(
    source: RunDirectory, tiles: Survey, training: Training, sections: dict[str, Any], pattern: str
) -> None:
    request = request_of(source)
    with pytest.raises(UserError, match=pattern):
        start(request, tiles, config_of(**sections))
    assert [path.name for path in request.path.iterdir()] == [".lock"]
    assert not training.lessons


def test_a_recipe_whose_baseline_is_chosen_by_score_is_refused_before_it_is_trained(
    tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "run_baseline", None)
    request = Request(tmp_path / "rounds", 1, None, (0, 1), pooled=False, early_stop=True)
    with pytest.raises(UserError, match=r"set snapshots\.select to last"):
        start(request, tiles, config_of(snapshots={"select": "best"}))


def test_sources_that_do_not_fit(source: RunDirectory, tiles: Survey) -> None:
    with pytest.raises(UserError, match="was made from other data"):
        start(request_of(source), tiny_survey(40, 15))
    source.fold(1).result.unlink()
    with pytest.raises(UserError, match="fold 1 not finished; go on with baseline --resume"):
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
    assert outcome.rounds[2].taken.agreement is None
    assert "all 2 rounds" in outcome.ended


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


def test_the_source_is_free_while_a_round_is_trained(
    source: RunDirectory, tiles: Survey, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may predict it, or learn from it, too."""
    free: list[bool] = []

    def train(*arguments: Any) -> None:
        with source.lock():
            free.append(True)
        training(*arguments)

    monkeypatch.setattr(rounds, "train_folds", train)
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
