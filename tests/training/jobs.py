"""Trainings in processes of their own: killed, stopped, or two that work together.

The processes are forked from a server that has everything imported, so that each starts in a moment.
"""

import functools
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from semisalt import processes
from semisalt.config import Config
from semisalt.training import crossval, fit, job
from semisalt.training.fit import Trainer
from semisalt.training.log import TrainingLog
from tests.tiny import tiny_survey, tiny_trainer

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.training.jobs"])


def run(job: Callable[..., None], *arguments: Any, world: int = 1, timeout: float = 120) -> list[int | None]:
    """Run `job(*arguments)` in `world` processes; their exit codes. A world of several is one gloo group."""
    port = _free_port()
    processes = [_SERVER.Process(target=_start, args=(rank, world, port, job, *arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def train(path: Path, config: Config, resume: bool, moment: str | None) -> None:
    """Train fold 0 of the tiny survey; `moment` names what strikes and where."""
    if moment is not None:
        _MOMENTS[moment]()
    job.run_training(path, tiny_survey(), config, folds=[0], resume=resume, announce=lambda _: None)


def train_together(path: Path, config: Config, notes: Path) -> None:
    """Train fold 0 as one of several processes; each notes its tiles, its writes, and its last weights."""
    rank = int(os.environ["RANK"])
    seen: list[list[int]] = []
    written: list[str] = []
    step = Trainer.step

    def noted_step(self: Trainer, batch: Any) -> None:
        seen.append(batch.indices.tolist())
        step(self, batch)

    finish = crossval._finish_fold

    def noted_finish(trainer: Trainer, *rest: Any) -> None:
        torch.save(trainer.plain[0].state_dict(), notes / f"weights{rank}.pt")
        torch.save([parameter.detach() for parameter in trainer.parameters], notes / f"trained{rank}.pt")
        torch.save(trainer.judged.state_dict(), notes / f"judged{rank}.pt")
        finish(trainer, *rest)

    def note_write(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(path)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            written.append(str(arguments[0]))

    Trainer.step = noted_step  # type: ignore[method-assign]
    crossval._finish_fold = noted_finish
    sys.addaudithook(note_write)
    job.run_training(path, tiny_survey(), config, folds=[0], resume=False, announce=lambda _: None)
    (notes / f"seen{rank}.json").write_text(json.dumps(seen))
    (notes / f"written{rank}.json").write_text(json.dumps(written))


def first_gradients(folder: Path, config: Config) -> None:
    """Each process's gradients of the first step, every normalisation in evaluation mode."""
    trainer = tiny_trainer(folder / os.environ["RANK"], config)
    trainer.method.networks[0].eval()
    trainer.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
    trainer.optimiser.zero_grad = lambda **_: None  # type: ignore[method-assign,assignment]
    trainer.step(next(trainer.stream(0)))
    torch.save([parameter.grad for parameter in trainer.parameters], folder / f"{os.environ['RANK']}.pt")


def _start(rank: int, world: int, port: int, job: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    else:
        os.environ["RANK"] = "0"
    job(*arguments)
    processes.part()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str, strike: Callable[[], None], when: Callable[..., bool]) -> None:
    """Strike before `owner.name` is called for the first time with arguments that satisfy `when`."""
    original, struck = getattr(owner, name), False

    @functools.wraps(original)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        nonlocal struck
        if not struck and when(*arguments, **named):
            struck = True
            strike()
        return original(*arguments, **named)

    setattr(owner, name, wrapper)


def _at_step(strike: Callable[[], None], step: int, *, look_every: int = 25) -> None:
    fit._LOOK_EVERY = look_every
    _before(Trainer, "step", strike, lambda trainer, _: trainer.position.step == step)


def _half_written_checkpoint() -> None:
    """The third checkpoint has its temporary file, and no name yet."""
    count = 0

    def third(_: Path, target: Path) -> bool:
        nonlocal count
        count += target.name == "last.ckpt"
        return count == 3

    _before(Path, "replace", _kill, third)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate_group() -> None:
    os.setsid()
    # The loader's processes start after this; the group is this process and whoever stays in its group.
    _at_step(lambda: os.killpg(0, signal.SIGTERM), 6)


_MOMENTS: dict[str, Callable[[], None]] = {
    "kill before any checkpoint": lambda: _at_step(_kill, 2),
    "kill within an epoch": lambda: _at_step(_kill, 6, look_every=1),
    "kill between snapshot and checkpoint": lambda: _before(
        TrainingLog, "epoch", _kill, lambda _, record, __: record["epoch"] == 1
    ),
    "kill while the checkpoint is written": _half_written_checkpoint,
    "kill while the fold is finished": lambda: _before(
        crossval, "write_csv", _kill, lambda path, *_: path.name == "tiles.csv"
    ),
    "kill while the results are written": lambda: _before(
        Path, "replace", _kill, lambda _, target: target.name == "results.json"
    ),
    "stop within an epoch": lambda: _at_step(_terminate, 6),
    "stop the group": _terminate_group,
    "stop at the last validation": lambda: _before(
        Trainer, "validate", _terminate, lambda trainer, _network: trainer.position.epoch == 2
    ),
}
