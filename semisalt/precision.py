"""fp32 or bf16: measured, not guessed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Choice:
    """A precision and the reason for it."""

    precision: Precision
    reason: str


def choose_precision(network: nn.Module, inputs: torch.Tensor, *, repeats: int = 3) -> Choice:
    """Time a training step of `network` on `inputs` [B, C, H, W] in both precisions and take the faster one.

    bf16 autocast quickens convolutions that run as matrix products, where a processor has units for it, and costs
    casts, so that neither is a safe guess on a CPU. bf16 must gain 5 % to be taken. On a GPU without bf16 units it is
    fp32. The network's weights and statistics are left as they were.
    """
    device = inputs.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("fp32", "this GPU has no bf16 units")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    was_training = network.training
    network.train()
    try:
        # In turn, and the fastest of each: what else the machine does meanwhile slows both alike, or only some runs.
        runs = [
            (_step_seconds(network, inputs, "fp32"), _step_seconds(network, inputs, "bf16")) for _ in range(1 + repeats)
        ]
    finally:
        network.load_state_dict(state)
        network.zero_grad(set_to_none=True)
        network.train(was_training)
    fp32, bf16 = (min(times) for times in zip(*runs[1:], strict=True))
    gain = fp32 / bf16
    name: Precision = "bf16" if gain > 1.05 else "fp32"
    return Choice(name, f"bf16 runs at {gain:.2f}× the speed of fp32 here")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of a precision; weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def median_seconds(action: Callable[[], object], device: torch.device, repeats: int, warmup: int = 1) -> float:
    """Median wall time of `action` in seconds, the device's queue drained."""
    times = []
    for run in range(warmup + repeats):
        begin = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if run >= warmup:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _step_seconds(network: nn.Module, inputs: torch.Tensor, precision: Precision) -> float:
    def step() -> None:
        with autocast(inputs.device, precision):
            output = network(inputs)
        output.float().mean().backward()

    return median_seconds(step, inputs.device, repeats=1, warmup=0)
