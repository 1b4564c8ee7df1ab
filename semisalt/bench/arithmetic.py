"""What a training step computes, and what the machine's matrix product can: the two ends of its efficiency."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from semisalt.bench.timing import Action
from semisalt.precision import Precision, median_seconds

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
# A product that would take longer is not tried: on such a machine smaller ones fill it.
_LONGEST = 0.5


def step_flops(network: nn.Module, shape: Sequence[int]) -> int:
    """Floating-point operations of one forward and backward pass on an input [B, C, H, W].

    Convolutions and matrix products alone, a multiplication with its addition as two. Nothing is computed for it.
    """
    virtual = copy.deepcopy(network).to("meta").train()
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        virtual(torch.zeros(tuple(shape), device="meta")).sum().backward()
    total: int = counter.get_total_flops()
    return total


def matmul_size(precision: Precision, device: torch.device) -> int:
    """The side of the square matrices whose product runs fastest on this device."""
    best, size, predicted = 0.0, 0, 0.0
    for side in _SIZES.get(device.type, _SIZES["cpu"]):
        if predicted > _LONGEST:
            break
        seconds = median_seconds(matmul(side, precision, device).run, device, repeats=3)
        predicted = 8 * seconds
        if side**3 / seconds > best:
            best, size = side**3 / seconds, side
    return size


def matmul(side: int, precision: Precision, device: torch.device) -> Action:
    """The product of two square matrices: 2 · side³ operations."""
    a, b, out = (torch.ones((side, side), dtype=_DTYPES[precision], device=device) for _ in range(3))

    def run() -> None:
        with torch.inference_mode(), _as_convolutions():
            torch.mm(a, b, out=out)

    return Action(run)


@contextmanager
def _as_convolutions() -> Iterator[None]:
    """Let matrix products round as convolutions do: on a GPU these use TF32 for fp32 unless told otherwise."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _convolution_backward_flops(
    grad: Sequence[int],
    x: Sequence[int],  # noqa: ARG001
    weight: Sequence[int],
    *rest: object,
    out_shape: object = None,  # noqa: ARG001
) -> int:
    """Each of the two gradients costs what the forward pass does, 2 · B · H' · W' · |weight|.

    torch's own formula knows no groups and counts a depthwise convolution's gradient as a full one.
    """
    mask = rest[-1]
    assert isinstance(mask, list | tuple)  # noqa: S101  # the last argument says which gradients are wanted
    return 2 * grad[0] * prod(grad[2:]) * prod(weight) * sum(map(bool, mask[:2]))
