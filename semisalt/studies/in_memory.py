"""Trials that take milliseconds: chosen in memory, and stored with one commit each instead of a dozen.

One follows the other. Choosing and storing are Python throughout, scoring is numpy on all cores: at the same time they
would wait for each other's lock more than they gain.
"""

import time
from collections.abc import Callable
from typing import Any

import optuna

from semisalt.studies.choosing import sampler_of
from semisalt.studies.request import StudyRequest
from semisalt.studies.space import suggest

# The value of a trial's parameters, and what is noted about it.
Score = Callable[[dict[str, Any]], tuple[float, dict[str, Any]]]


def search_in_memory(
    request: StudyRequest, stored: optuna.Study, total: int, timeout: float | None, score: Score
) -> bool:
    """Make trials until `total` are stored; False where `timeout` seconds were over before that.

    A process that dies loses the one that it was at, which comes out the same when the study goes on.
    """
    memory = optuna.create_study(direction="maximize")
    memory.add_trials(stored.get_trials(deepcopy=False))
    began = time.monotonic()
    for number in range(len(memory.trials), total):
        if timeout is not None and time.monotonic() - began > timeout:
            return False
        memory.sampler = sampler_of(request, number)
        trial = memory.ask()
        value, notes = score(suggest(trial, request.space, {}))
        for key, note in notes.items():
            trial.set_user_attr(key, note)
        stored.add_trial(memory.tell(trial, value))
    return True
