"""The processes that train one run together: those that torchrun started, or this one alone."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from semisalt.errors import RefusedError, UserError

if TYPE_CHECKING:  # the help texts must not wait for torch
    from accelerate import Accelerator, PartialState

# The others wait while the first one decodes, labels or predicts.
_LONGEST_WAIT = timedelta(days=2)


def rank() -> int:
    """This process's number; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def join() -> "PartialState":
    """Form a group with the other processes; whoever asks first does, later calls find it.

    Without a GPU they talk by gloo: accelerate forms such a group only where it is told to use the CPU, and would leave
    each process in the belief that it is alone.

    Raises:
        UserError: torchrun started several processes on a device that has no way to join them.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    bare = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=bare, timeout=_LONGEST_WAIT)
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if state.num_processes != started:
        device = state.device.type
        raise UserError(
            f"torchrun started {started} processes, which cannot train together on {device}: start one, or set "
            "ACCELERATE_USE_CPU=1"
        )
    return state


def joined() -> "Accelerator":
    """What the loop trains with. The loop casts by itself, in the measured precision."""
    from accelerate import Accelerator

    join()
    return Accelerator(mixed_precision="no")


def part() -> None:
    """Leave the group, when all is done.

    A process that ends while its group's threads still run may abort
    (https://github.com/pytorch/pytorch/pull/179291), and torchrun then ends the others, who may still be writing.
    Nothing for a process that failed: it would wait for those that wait for it.
    """
    join().destroy_process_group()


def by_main(accelerator: "Accelerator", act: Callable[[], object]) -> None:
    """Let the main process do what is done once, while the others wait; what it refuses, all processes refuse.

    Raises UserError, or RefusedError, on each of them.
    """
    from accelerate.utils import broadcast_object_list

    refusal: UserError | None = None
    if accelerator.is_main_process:
        try:
            act()
        except UserError as error:
            refusal = error
    said = [(str(refusal), isinstance(refusal, RefusedError)) if refusal else None]
    broadcast_object_list(said)
    if refusal:
        raise refusal
    if said[0] is not None:
        text, by_guards = said[0]
        raise RefusedError(text) if by_guards else UserError(text)
