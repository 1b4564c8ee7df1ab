"""Who runs which trial: none too many, none lost, none twice, whoever dies."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import Trial, TrialState

from semisalt.errors import NotFiniteError, UserError
from semisalt.studies import claims
from semisalt.studies.claims import ATTEMPTS
from semisalt.studies.objective import TimeIsUpError
from semisalt.studies.search import run_trial, run_trials
from tests.studies.made import (
    assert_none_lost,
    desk_of,
    made,
    noted,
    quiet,
    search_sums,
    sums,
    trials_of,
    value_of,
    workers,
)


def test_four_processes_reach_the_total_and_never_overshoot(tmp_path: Path) -> None:
    directory = made(tmp_path / "study")
    assert workers(directory, 30, 4) == [0, 0, 0, 0]
    trials = trials_of(directory)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 30
    assert noted(directory) == list(range(30))
    assert all(trial.values == [value_of(trial.params)] for trial in trials)
    # More of them later: the total counts the earlier ones.
    assert workers(directory, 34, 4) == [0, 0, 0, 0]
    assert noted(directory) == list(range(34))
    assert workers(directory, 20, 2) == [0, 0]
    assert len(trials_of(directory)) == 34


def test_the_database_is_in_wal_mode(tmp_path: Path) -> None:
    directory = made(tmp_path / "study")
    search_sums(directory, 1)
    with sqlite3.connect(directory.database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_killed_workers_trial_is_run_again_with_the_same_values(tmp_path: Path) -> None:
    directory = made(tmp_path / "study")
    codes = workers(directory, 16, 4, dies=5)
    assert sorted(codes, key=str) == [-9, 0, 0, 0]
    assert_none_lost(directory, 16, 5)


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = made(tmp_path / "study")
    desk = desk_of(directory)
    monkeypatch.setattr(claims, "silence", lambda *_: {})  # every running trial is one of a dead worker
    for _ in range(ATTEMPTS):
        assert desk.claim(1) is not None
    assert desk.claim(1) is None
    assert [trial.user_attrs["ending"] for trial in trials_of(directory)] == ["killed"] * ATTEMPTS


def test_a_worker_that_dies_while_it_claims_leaves_its_trial_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = made(tmp_path / "study")
    desk = desk_of(directory)
    with monkeypatch.context() as patch:
        patch.setattr(desk.storage, "record_heartbeat", _die)
        with pytest.raises(KeyboardInterrupt):
            desk.claim(1)
    (trial,) = search_sums(directory, 1)[1:]
    assert (trial.state, trial.user_attrs["retry_of"]) == (TrialState.COMPLETE, 0)


def test_a_worker_thought_dead_changes_nothing_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = made(tmp_path / "study")
    slow, quick = desk_of(directory), desk_of(directory)
    trial = slow.claim(1)
    assert trial is not None
    with monkeypatch.context() as patch:
        patch.setattr(claims, "silence", lambda *_: {0: 1e3})
        again = quick.claim(1)
    assert again is not None
    run_trial(slow, trial, sums, quiet)
    run_trial(quick, again, sums, quiet)
    before, after = trials_of(directory)
    assert (before.state, before.user_attrs["ending"]) == (TrialState.FAIL, "killed")
    assert after.state is TrialState.COMPLETE


def test_signs_of_life_are_given_while_a_trial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = made(tmp_path / "study")
    desk = desk_of(directory)
    trial = desk.claim(1)
    assert trial is not None
    twice = threading.Semaphore(0)
    monkeypatch.setattr(desk.storage, "record_heartbeat", lambda _: twice.release())
    with desk.alive(trial):
        assert all(twice.acquire(timeout=60) for _ in range(2))


@pytest.mark.parametrize(
    ("raised", "ending", "state", "reason"),
    [
        (optuna.TrialPruned("pruned: fold 0, epoch 3"), "pruned", TrialState.PRUNED, "pruned: fold 0, epoch 3"),
        (NotFiniteError("the loss of step 3 is not finite"), "nan", TrialState.FAIL, "NaN: the loss of step 3 is"),
        (UserError("base is above peak"), "failed", TrialState.FAIL, "failed: base is above peak"),
        (MemoryError("no more"), "failed", TrialState.FAIL, "failed: MemoryError: no more"),
    ],
    ids=["pruned", "nan", "failed", "out of memory"],
)
def test_endings_are_told_apart_and_the_search_goes_on(
    tmp_path: Path, raised: Exception, ending: str, state: TrialState, reason: str
) -> None:
    def objective(trial: Trial, note: Callable[..., None]) -> list[float]:
        if trial.number == 1:
            trial.report(0.1, 1)
            raise raised
        return sums(trial, note)

    trials = search_sums(made(tmp_path / "study"), 3, objective)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, state, TrialState.COMPLETE]
    assert trials[1].user_attrs["ending"] == ending
    assert trials[1].user_attrs["reason"].startswith(reason)
    assert all("ending" not in trial.user_attrs for trial in (trials[0], trials[2]))


@pytest.mark.parametrize("leave", [KeyboardInterrupt, TimeIsUpError], ids=lambda error: error.__name__)
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path, leave: type[BaseException]) -> None:
    straight = search_sums(made(tmp_path / "one" / "study"), 14)
    directory = made(tmp_path / "two" / "study")
    struck: list[int] = []

    def objective(trial: Trial, note: Callable[..., None]) -> list[float]:
        if trial.number in (3, 9):
            struck.append(trial.number)
            raise leave
        return sums(trial, note)

    for _ in range(3):
        desk = desk_of(directory)
        try:
            run_trials(desk, objective, 14, None, quiet)
        except KeyboardInterrupt:
            continue
    trials = trials_of(directory)
    assert len(struck) == 2
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert [trial.params for trial in finished] == [trial.params for trial in straight]
    assert [trial.values for trial in finished] == [trial.values for trial in straight]


def _die(_: int) -> None:
    raise KeyboardInterrupt
