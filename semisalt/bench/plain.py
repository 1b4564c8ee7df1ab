"""A plain script's training step, in a process of its own: what the loop's speed is compared with."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from semisalt.bench.timing import Action
from semisalt.bench.workload import bare_step
from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.errors import UserError
from semisalt.inference.build import build_network
from semisalt.memory import keep_freed_memory


@contextmanager
def plain_step(
    config: Config, channels: Channels, shape: tuple[int, ...], device: torch.device, *, keep: bool
) -> Iterator[Action]:
    """The same network's step as a script has it that takes no care: fp32, NCHW, eager, torch's own choice of Adam.

    In a process of its own, since the allocator's settings (semisalt.memory) hold for a whole process: the plain script
    has the system's, or with `keep` semisalt's own. It waits while others are measured.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    threads = torch.get_num_threads()
    process = context.Process(target=_serve, args=(theirs, config, channels, shape, device, threads, keep), daemon=True)
    process.start()
    theirs.close()

    def answer() -> None:
        try:
            ours.recv()
        except (EOFError, ConnectionResetError):
            process.join(10)
            raise UserError(
                f"the plain script's process ended (exit code {process.exitcode}); where memory is short, try a "
                "smaller --set training.batch"
            ) from None

    def run() -> None:
        ours.send(True)
        answer()

    try:
        answer()  # built
        yield Action(run)
        ours.send(False)
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _serve(
    pipe: Connection,
    config: Config,
    channels: Channels,
    shape: tuple[int, ...],
    device: torch.device,
    threads: int,
    keep: bool,
) -> None:
    if keep:
        keep_freed_memory()
    torch.set_num_threads(threads)
    network = build_network(config, channels, weights="none").to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.0)
    action = bare_step(network, optimiser, torch.randn(shape, device=device), "fp32", "NCHW")
    pipe.send(True)
    while pipe.recv():
        action.run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        pipe.send(True)
