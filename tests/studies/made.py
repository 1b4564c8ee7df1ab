"""Studies without training: a request, its desk, and workers in processes of their own that find values by sums."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, Trial, TrialState

from semisalt.config import Config
from semisalt.data.synthetic import write_survey
from semisalt.data.tiles import Survey
from semisalt.recipe import dump_config
from semisalt.studies.begin import begin
from semisalt.studies.claims import Desk, standing
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.request import StudyFile, StudyRequest, write_request
from semisalt.studies.search import open_desk, run_trials
from tests.tiny import tiny_config

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.studies.made"])

SPACE: dict[str, Any] = {
    "schedule.peak": {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True},
    "loss.switch_epoch": {"kind": "int", "low": 0, "high": 3},
    "optimiser.name": {"kind": "categorical", "choices": ["adam", "adamw"]},
    "optimiser.weight_decay": {"kind": "float", "low": 0, "high": 0.1, "when": {"optimiser.name": "adamw"}},
}


def quiet(_: object) -> None:
    """Nobody listens."""


def made(path: Path, **changes: Any) -> StudyDirectory:
    """A study of sums: nothing is trained, so its tiles need not exist."""
    fields: dict[str, Any] = {
        "name": path.name,
        "space": SPACE,
        "recipe": tiny_config().model_dump(mode="json"),
        "data": {"path": "nowhere", "fingerprint": "f"},
        "sampler": {"startup": 5},
        "heartbeat": 1,
    }
    path.mkdir(parents=True)
    write_request(path / "study.yaml", StudyRequest.model_validate({**fields, **changes}))
    return StudyDirectory.open(path)


def value_of(params: dict[str, Any]) -> float:
    """What a trial with these values is worth."""
    return float(-((np.log10(params["schedule.peak"]) + 2) ** 2) - 0.1 * params["loss.switch_epoch"])


def sums(trial: Trial, note: Callable[..., None]) -> list[float]:
    """An objective that trains nothing."""
    note(score={"value": value_of(trial.params)})
    return [value_of(trial.params)]


def trials_of(directory: StudyDirectory) -> list[FrozenTrial]:
    """All trials."""
    return directory.open_study().get_trials(deepcopy=False)


def search_sums(
    directory: StudyDirectory, total: int, objective: Callable[..., list[float]] = sums
) -> list[FrozenTrial]:
    """One worker in this process; all trials."""
    run_trials(open_desk(directory), objective, total, None, quiet)
    return trials_of(directory)


def workers(directory: StudyDirectory, total: int, count: int, *, dies: int | None = None) -> list[int | None]:
    """So many processes work at a study of sums; their exit codes. The first to get trial `dies` is killed in it."""
    notes = directory.path / "notes"
    notes.mkdir(exist_ok=True)
    processes = [_SERVER.Process(target=_work, args=(directory.path, total, notes, dies)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def noted(directory: StudyDirectory) -> list[int]:
    """The numbers of the trials that were run to their end, one for each time."""
    return sorted(json.loads(line) for file in (directory.path / "notes").iterdir() for line in file.open())


def assert_none_lost(directory: StudyDirectory, total: int, killed: int) -> None:
    """Of four workers one was killed in a trial, which was run again as it was: `total` count, each run once."""
    trials = trials_of(directory)
    lost = trials[killed]
    assert (lost.state, lost.user_attrs["ending"]) == (TrialState.FAIL, "killed")
    assert lost.user_attrs["reason"].startswith("killed: its worker on ")
    (again,) = [trial for trial in trials if trial.user_attrs.get("retry_of") == killed]
    assert again.state is TrialState.COMPLETE
    assert again.params == lost.params
    assert again.user_attrs["run"] == lost.user_attrs["run"] == f"trial{killed:04d}"
    assert len(trials) == total + 1
    assert len(standing(trials)) == total
    assert noted(directory) == [number for number in range(total + 1) if number != killed]


def _work(path: Path, total: int, notes: Path, dies: int | None) -> None:
    desk = open_desk(StudyDirectory.open(path))

    def objective(trial: Trial, note: Callable[..., None]) -> list[float]:
        if trial.number == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        trial.report(0.0, 1)
        time.sleep(0.02)
        values = sums(trial, note)
        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{trial.number}\n")
        return values

    run_trials(desk, objective, total, None, quiet)


def desk_of(directory: StudyDirectory) -> Desk:
    """The study's desk."""
    return open_desk(directory)


def survey_path(folder: Path) -> Path:
    """60 synthetic tiles of 32×32, 48 of them labelled, on disk."""
    write_survey(folder / "tiles", tiles=60, labelled=48, seed=5, shape=(32, 32))
    return folder / "tiles"


def tiny_study(path: Path, survey: Survey, config: Config, device: Any, **keys: Any) -> StudyDirectory:
    """A study that trains the tiny network, as `semisalt study run` begins it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = path.parent / "recipe.yaml"
    recipe.write_text(dump_config(config))
    fields: dict[str, Any] = {"config": "recipe.yaml", "space": SPACE, "heartbeat": 1, **keys}
    return begin(path, path.parent / "study.yaml", StudyFile.model_validate(fields), survey, None, device)
