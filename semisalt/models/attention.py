"""Concurrent spatial and channel squeeze-and-excitation, scSE (Roy et al. 2018, arXiv:1803.02579)."""

import torch
from segmentation_models_pytorch.base.modules import SCSEModule
from torch import Tensor, nn


class PixelMean(nn.Module):
    """The mean over the pixels, [B, C, H, W] -> [B, C, 1, 1]; what `nn.AdaptiveAvgPool2d(1)` gives.

    In channels_last the gradient of PyTorch's own pooling arrives in the other memory order, which makes the
    addition to the gradients beside it slow; a mean over rows of pixels keeps the order (measured: 16 → 3.5 ms
    for the backward pass of one gate on [4, 256, 64, 64] in bfloat16 on CPU).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last):
            return x.mean(dim=(2, 3), keepdim=True)
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return pixels.mean(dim=1).view(batch, channels, 1, 1)


def quicken_squeezes(encoder: nn.Module) -> None:
    """Puts `PixelMean` in the place of every global average pooling, in place; there are no parameters in either."""
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(module, name, PixelMean())


class SCSE(SCSEModule):  # type: ignore[misc]  # smp carries no types
    """y = x · (c + s): a gate c for each channel and a gate s for each pixel.

    c = σ(W2 relu(W1 mean(x))), s = σ(w · x). The parameters are those of smp's module; the hidden layer never
    falls under one unit, so narrow decoders work. The sum of the two gates is the product of two thin
    matrices, c + s = [s 1] [1; c], and matrix products are several times faster here, forward and backward,
    than broadcasting over a short channel dimension in channels_last (measured: 45 → 17 ms for [20, 16, 128,
    128] in bfloat16 on CPU).

    Shapes: [B, C, H, W] -> [B, C, H, W], in channels_last order.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, reduction=min(16, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        squeezed = pixels.mean(dim=1).view(batch, channels, 1, 1)
        channel_gate = self.cSE[1:](squeezed).view(batch, 1, channels)
        pixel_gate = self.sSE(x).permute(0, 2, 3, 1).reshape(batch, height * width, 1)
        gate = torch.bmm(
            torch.cat([pixel_gate, torch.ones_like(pixel_gate)], dim=2),
            torch.cat([torch.ones_like(channel_gate), channel_gate], dim=1),
        )
        return (pixels * gate).view(batch, height, width, channels).permute(0, 3, 1, 2)
