"""Depthwise convolutions, whose bfloat16 gradients are slow on processors."""

from typing import Any

import torch
from torch import Tensor, nn


class _InFp32(nn.Conv2d):
    """Beside a convolution's class: where a processor will need gradients, it computes in float32 under autocast, too.

    What goes out is of the precision that autocast would have it in.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles know the library's class; the one made from it is found by no name."""
        return _bare, (type(self).__bases__[1],), self.__dict__


def quicken_depthwise(encoder: nn.Module) -> None:
    """Makes every depthwise convolution train in float32 on a processor, in place; weights and names stay.

    Their products are few, so that bfloat16 units gain them little, and oneDNN's bfloat16 gradients of them are several
    times slower than those in float32: a step of `configs/cpu.yaml` takes 960 ms in bfloat16, 694 ms so, 975 ms in
    float32 (one core of a Xeon with AMX units, torch 2.14; runs/README.md). A pass without gradients gains nothing by
    float32 and stays in bfloat16.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            # Libraries have classes of their own that pad in their own way; a module around them would rename weights.
            module.__class__ = _in_fp32(type(module))


def _in_fp32(convolution: type[nn.Conv2d]) -> type[nn.Conv2d]:
    return type(convolution.__name__, (_InFp32, convolution), {})


def _bare(convolution: type[nn.Conv2d]) -> nn.Conv2d:
    made = _in_fp32(convolution)
    return made.__new__(made)
