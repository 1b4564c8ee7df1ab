"""Who runs which trial: claimed under the study's lock, so that no trial is lost, run twice, or one too many.

A killed worker's trial falls silent. Whoever claims next marks it as killed and lines it up once more, with the same
parameters and the same run directory. The trial that takes its place counts, the killed one does not.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from semisalt.studies.directory import StudyDirectory
from semisalt.studies.storage import locked, silence

MISSED = 6  # signs of life, after which a worker is dead
ATTEMPTS = 3  # of a trial whose workers die: it may be what kills them


@dataclass(frozen=True, eq=False)
class Desk:
    """Where trials are claimed.

    Attributes:
        directory, study, storage: the study.
        heartbeat: seconds between signs of life.
        prepare: called before a trial is claimed, with its place among those that count (from 0).
        choose: lets a claimed trial choose its values.
    """

    directory: StudyDirectory
    study: optuna.Study
    storage: RDBStorage
    heartbeat: int
    prepare: Callable[[int], None]
    choose: Callable[[Trial], None]

    def claim(self, total: int) -> Trial | None:
        """The next trial, its values chosen; None where `total` trials are begun, finished or waiting for others.

        Values are chosen under the lock, too: every worker knows what the others are at.
        """
        with locked(self.directory):
            self.bury()
            trials = self.study.get_trials(deepcopy=False)
            counted = standing(trials)
            waiting = [trial for trial in counted if trial.state is TrialState.WAITING]
            if len(counted) - len(waiting) >= total:
                return None
            # The place in the order of those that count: a study that was interrupted goes on as if it had not been.
            self.prepare(len(counted) - len(waiting))
            trial = self.study.ask()
            self.storage.record_heartbeat(self._id(trial.number))
            if "run" not in trial.user_attrs:
                trial.set_user_attr("run", self.directory.trial_path(trial.number).name)
            trial.set_user_attr("worker", socket.gethostname())
            self.choose(trial)
            return trial

    def bury(self) -> None:
        """Mark the trials of dead workers as killed, and line each up once more. Only under the lock.

        Every step is found done or undone by whoever comes next, should this process die in between.
        """
        ages = silence(self.storage.engine, self.study.study_name)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # One that never gave a sign of life was claimed by a worker that died within the lock.
            age = ages.get(trial.number)
            if age is None or age > MISSED * self.heartbeat:
                said = "never heard of" if age is None else f"not heard of for {age:.0f} s"
                self._finish_killed(trial, f"killed: its worker on {trial.user_attrs.get('worker', '?')} was {said}")
        self._line_up()

    def hand_back(self, trial: Trial, reason: str) -> None:
        """Give a trial back that this worker has to leave: another attempt goes on with it."""
        with locked(self.directory):
            self.note(trial, handed_back=True)
            self._finish_killed(self.study.get_trials(deepcopy=False)[trial.number], f"killed: {reason}")
            self._line_up()

    def busy(self) -> bool:
        """Whether other workers are at trials that may yet come back."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Give signs of life from a thread of its own while a trial runs."""
        stop, number = threading.Event(), self._id(trial.number)

        def beat() -> None:
            while not stop.wait(self.heartbeat):
                with suppress(Exception):  # one that fails is one missed; training goes on
                    self.storage.record_heartbeat(number)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def note(self, trial: Trial, **attributes: Any) -> None:
        """Keep what is known of a trial; a trial that was given up meanwhile keeps what it has."""
        with suppress(UpdateFinishedTrialError):
            for key, value in attributes.items():
                trial.set_user_attr(key, value)

    def _finish_killed(self, trial: FrozenTrial, reason: str) -> None:
        number = self._id(trial.number)
        with suppress(UpdateFinishedTrialError):  # it has just come to its end after all
            self.storage.set_trial_user_attr(number, "ending", "killed")
            self.storage.set_trial_user_attr(number, "reason", reason)
            self.storage.set_trial_state_values(number, TrialState.FAIL)

    def _line_up(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        replaced = _replaced(trials)
        for trial in trials:
            attempt = trial.user_attrs.get("attempt", 1)
            if trial.user_attrs.get("ending") != "killed" or trial.number in replaced:
                continue
            if attempt >= ATTEMPTS and "handed_back" not in trial.user_attrs:
                continue
            kept = {key: value for key, value in trial.user_attrs.items() if key in ("run", "seconds")}
            # Whoever handed it back did not die of it.
            died = "handed_back" not in trial.user_attrs
            attributes = {**kept, "retry_of": trial.number, "attempt": attempt + died}
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs=attributes,
                )
            )

    def _id(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)


def standing(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: all but those whose place another attempt has taken."""
    replaced = _replaced(trials)
    return [trial for trial in trials if trial.number not in replaced]


def _replaced(trials: Sequence[FrozenTrial]) -> set[int]:
    return {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}
