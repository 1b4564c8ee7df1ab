"""Trials chosen in memory and stored one by one."""

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from semisalt.studies.in_memory import search_in_memory
from semisalt.studies.request import StudyRequest

SPACE = {"threshold": {"kind": "float", "low": 0.25, "high": 0.75}, "min_salt": {"kind": "int", "low": 0, "high": 50}}


def request(**sampler: Any) -> StudyRequest:
    return StudyRequest.model_validate(
        {"name": "made", "level": "threshold", "space": SPACE, "recipe": {}, "data": {}, "sampler": sampler}
    )


def hill(params: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Best at .6 and 20."""
    value = -((params["threshold"] - 0.6) ** 2) - ((params["min_salt"] - 20) / 100) ** 2
    return value, {"operating": [params["threshold"], params["min_salt"]]}


class Killed(BaseException):
    """Stands for a process that dies."""


@pytest.mark.parametrize("breaks", [(1,), (2,), (7, 8), (15, 25)], ids=str)
def test_a_study_that_dies_and_goes_on_makes_the_same_trials(breaks: tuple[int, ...]) -> None:
    asked = request(startup=5)
    whole, broken = optuna.create_study(direction="maximize"), optuna.create_study(direction="maximize")
    assert search_in_memory(asked, whole, 40, None, hill)
    for stop in breaks:
        lives = iter(range(len(broken.trials), stop))

        def dying(params: dict[str, Any], lives: Iterator[int] = lives) -> tuple[float, dict[str, Any]]:
            if next(lives, None) is None:
                raise Killed
            return hill(params)

        with pytest.raises(Killed):
            search_in_memory(asked, broken, 40, None, dying)
        assert len(broken.trials) == stop  # only the one that it was at is lost
    assert search_in_memory(asked, broken, 40, None, hill)
    for one, two in zip(whole.trials, broken.trials, strict=True):
        assert (one.params, one.values, one.user_attrs) == (two.params, two.values, two.user_attrs)
        assert one.state == two.state == TrialState.COMPLETE


def test_the_end_is_the_end() -> None:
    study = optuna.create_study(direction="maximize")
    assert not search_in_memory(request(), study, 5, 0.0, hill)
    assert len(study.trials) == 0
    assert search_in_memory(request(), study, 5, None, hill)
    assert search_in_memory(request(), study, 3, None, hill)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert study.trials[2].user_attrs["operating"] == [
        study.trials[2].params["threshold"],
        study.trials[2].params["min_salt"],
    ]


def test_choices_follow_the_results() -> None:
    # Catches a sampler that is never told of them.
    asked, up, down = request(startup=5), *(optuna.create_study(direction="maximize") for _ in range(2))
    search_in_memory(asked, up, 20, None, hill)
    search_in_memory(asked, down, 20, None, lambda params: (-hill(params)[0], {}))
    same = [one.params == two.params for one, two in zip(up.trials, down.trials, strict=True)]
    assert all(same[:5])
    assert not all(same[5:9])
