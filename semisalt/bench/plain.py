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
from semisalt.inference.build import build_network

# In a row, each turn.
_STEPS = 3


@contextmanager
def plain_step(config: Config, channels: Channels, shape: tuple[int, ...], device: torch.device) -> Iterator[Action]:
    """The same network's step as a script has it that takes no care: fp32, NCHW, eager, torch's own choice of Adam.

    In a process of its own, since the allocator's settings (semisalt.memory) hold for a whole process and the plain
    script has glibc's. It waits while others are measured.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    threads = torch.get_num_threads()
    process = context.Process(target=_serve, args=(theirs, config, channels, shape, device, threads), daemon=True)
    process.start()
    theirs.close()

    def run() -> None:
        ours.send(True)
        ours.recv()

    try:
        ours.recv()  # built
        # Of single steps with pauses between them, each would pay for memory that a running script still has.
        yield Action(run, least=_STEPS)
        ours.send(False)
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _serve(
    pipe: Connection, config: Config, channels: Channels, shape: tuple[int, ...], device: torch.device, threads: int
) -> None:
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
