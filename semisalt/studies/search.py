"""The search: workers that claim trials until the wanted number is reached."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import optuna
import torch
from optuna.trial import Trial, TrialState

from semisalt.data.read import load_survey
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.mosaics.groups import grouped
from semisalt.studies.choosing import pruner_of, sampler_of
from semisalt.studies.claims import Desk, standing
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.objective import Objective, ReportTrial, TimeIsUpError, ending_of
from semisalt.studies.request import StudyRequest
from semisalt.studies.space import suggest
from semisalt.studies.storage import locked, open_storage

Announce = Callable[[str], None]


def search(
    directory: StudyDirectory,
    total: int,
    workers: int,
    timeout: float | None,
    announce: Announce,
    report: ReportTrial,
) -> bool:
    """Run trials until `total` are finished, by so many processes on this machine; others may work at the same study.

    Args:
        directory: the study, begun.
        total: how many trials in all, earlier ones included.
        workers: processes; one works in this very process.
        timeout: seconds after which trials are left for another time.
        announce: told of each trial, a line.
        report: what is done with a finished trial's run.

    Returns:
        Whether all trials are finished.

    Raises:
        UserError: all workers died before that.
    """
    desk = open_desk(directory)
    desk.study.set_user_attr("trials", total)
    deadline = None if timeout is None else time.time() + timeout
    if workers == 1:
        work(directory.path, total, deadline, announce, report)
    else:
        _work_together(directory, total, workers, deadline, announce, report)
    trials = standing(desk.study.get_trials(deepcopy=False))
    reached = sum(trial.state.is_finished() for trial in trials) >= total
    if not reached and deadline is None:
        raise UserError(f"{directory.path}: all workers are gone before the end: see above, and run it again to go on")
    return reached


def work(path: Path, total: int, deadline: float | None, announce: Announce, report: ReportTrial) -> None:
    """One worker: train trials until none is left."""
    directory = StudyDirectory.open(path)
    request = directory.request
    objective = Objective(directory, request, survey_of(request), deadline, report)
    run_trials(open_desk(directory), objective, total, deadline, announce)


def run_trials(
    desk: Desk, objective: Callable[..., list[float]], total: int, deadline: float | None, announce: Announce
) -> None:
    """Claim a trial, run it, and so on. With nothing left to claim the worker stays while others are at work, to take
    over from those that die.
    """
    while deadline is None or time.time() < deadline:
        trial = desk.claim(total)
        if trial is not None:
            run_trial(desk, trial, objective, announce)
        elif desk.busy():
            time.sleep(desk.heartbeat)
        else:
            return


def run_trial(desk: Desk, trial: Trial, objective: Callable[..., list[float]], announce: Announce) -> None:
    """Run a claimed trial to its end, whatever that is; only what ends the worker is raised."""

    def note(**attributes: object) -> None:
        desk.note(trial, **attributes)

    try:
        with desk.alive(trial):
            values = objective(trial, note)
    except TimeIsUpError:
        desk.hand_back(trial, "the study's time was up; it goes on when the study does")
    except (KeyboardInterrupt, SystemExit):
        desk.hand_back(trial, "its worker was asked to stop; it goes on when the study does")
        raise
    except Exception as error:
        ending, reason = ending_of(error)
        note(ending=ending, reason=reason)
        pruned = ending == "pruned"
        desk.study.tell(trial, state=TrialState.PRUNED if pruned else TrialState.FAIL, skip_if_finished=True)
        announce(f"trial {trial.number}: {reason}")
    else:
        desk.study.tell(trial, values, skip_if_finished=True)
        figures = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(desk.directory.request.objectives, values, strict=True)
        )
        announce(f"trial {trial.number}: {figures}")


def open_desk(directory: StudyDirectory) -> Desk:
    """The study where trials are claimed; made in the storage where it is not there yet.

    Raises UserError where the storage holds another study of that name.
    """
    request = directory.request
    # Studies talk of each trial; `announce` does.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with locked(directory):
        storage = open_storage(directory)
        study = optuna.create_study(
            study_name=request.name,
            storage=storage,
            directions=["maximize" if name == "score" else "minimize" for name in request.objectives],
            pruner=pruner_of(request),
            load_if_exists=True,
        )
        mark = _mark(request)
        if study.user_attrs.setdefault("request", mark) != mark:
            raise UserError(f"the storage holds another study named {request.name}: choose another name by --run")
        study.set_user_attr("request", mark)

    def prepare(place: int) -> None:
        study.sampler = sampler_of(request, place)

    def choose(trial: Trial) -> None:
        suggest(trial, request.space, request.recipe)

    return Desk(directory, study, storage, request.heartbeat, prepare, choose)


def survey_of(request: StudyRequest) -> Survey:
    """The study's tiles, as it was begun with them. Raises UserError where they are gone or others now."""
    path = Path(request.data["path"])
    if not path.exists():
        raise UserError(f"{path}, the data of study {request.name}, is not there any more: give it by --data")
    survey = load_survey(path)
    if survey.fingerprint != request.data["fingerprint"]:
        raise UserError(
            f"{path} is not what study {request.name} was begun with: its fingerprint is {survey.fingerprint}, "
            f"the study's {request.data['fingerprint']}"
        )
    return grouped(survey, request.base)


def _mark(request: StudyRequest) -> str:
    """What makes a study the same on every machine: not where its files lie."""
    data = {key: value for key, value in request.data.items() if key != "path"}
    same = request.model_copy(update={"data": data, "storage": None, "heartbeat": 1})
    return sha256(same.model_dump_json().encode()).hexdigest()


def _work_together(
    directory: StudyDirectory,
    total: int,
    workers: int,
    deadline: float | None,
    announce: Announce,
    report: ReportTrial,
) -> None:
    """Start workers and wait for them; one that dies is told of, and leaves its trial to the others."""
    context = multiprocessing.get_context("spawn")
    devices = _devices()
    threads = max(1, torch.get_num_threads() // workers)
    processes = [
        context.Process(
            target=_work_alone,
            args=(directory.path, total, deadline, report, threads, devices[index % len(devices)] if devices else None),
        )
        for index in range(workers)
    ]
    _stop_on_sigterm()
    try:
        for process in processes:
            process.start()
        for index, process in enumerate(processes):
            process.join()
            if process.exitcode:
                announce(f"worker {index} ended with code {process.exitcode}; the others take its trial over")
    finally:
        _end(processes)


def _work_alone(
    path: Path, total: int, deadline: float | None, report: ReportTrial, threads: int, gpu: str | None
) -> None:
    """A worker in a process of its own, with its share of the processor, or one of the GPUs."""
    _stop_on_sigterm()
    _stop_with_parent()
    torch.set_num_threads(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        work(path, total, deadline, _say, report)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _say(line: str) -> None:
    print(line, flush=True)


def _devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given:
        return given.split(",")
    return [str(index) for index in range(torch.cuda.device_count())]


def _stop_on_sigterm() -> None:
    """Leave by SystemExit, so that the workers are told, too."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _stop_with_parent() -> None:
    """A worker whose parent was killed saves what it is at, and leaves."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  # workers are started by another process

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask those that still work to stop, and wait: they save what they are at."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join()
