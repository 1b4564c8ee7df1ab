"""Trials that take milliseconds: each is chosen while the one before is scored, and written down while the next is.

A trial's choice knows the results of all trials but the one before it, which it takes for one that is running. That
holds for a study that goes on, too: it makes the trials that it would have made without a break.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from semisalt.studies.choosing import sampler_of
from semisalt.studies.request import StudyRequest
from semisalt.studies.space import suggest

# The value of a trial's parameters, and what is noted about it.
Score = Callable[[dict[str, Any]], tuple[float, dict[str, Any]]]


def search_ahead(request: StudyRequest, stored: optuna.Study, total: int, timeout: float | None, score: Score) -> bool:
    """Make trials until `total` are stored; False where `timeout` seconds were over before that.

    They are made in memory, and stored with one commit each instead of a dozen. A process that dies loses at most the
    last one, which comes out the same when the study goes on.
    """
    memory = optuna.create_study(direction="maximize")

    def choose(number: int) -> tuple[optuna.Trial, dict[str, Any]]:
        memory.sampler = sampler_of(request, number)
        trial = memory.ask()
        return trial, suggest(trial, request.space, {})

    done = stored.get_trials(deepcopy=False)
    if len(done) >= total:
        return True
    memory.add_trials(done[:-1])
    for last in done[-1:]:
        running = create_trial(state=TrialState.RUNNING, params=last.params, distributions=last.distributions)
        memory.add_trial(running)
    following = choose(len(done))
    for last in done[-1:]:
        memory.tell(len(done) - 1, last.values)
    began, finished = time.monotonic(), None
    with ThreadPoolExecutor(1) as beside:
        for number in range(len(done), total):
            if timeout is not None and time.monotonic() - began > timeout:
                break
            trial, params = following
            scoring = beside.submit(score, params)
            if finished is not None:
                stored.add_trial(finished)
            if number + 1 < total:
                following = choose(number + 1)
            value, notes = scoring.result()
            for key, note in notes.items():
                trial.set_user_attr(key, note)
            finished = memory.tell(trial, value)
    if finished is not None:
        stored.add_trial(finished)
    return len(stored.get_trials(deepcopy=False)) >= total
