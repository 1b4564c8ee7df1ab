"""Hypercolumn: the coarse levels of the decoder, side by side with its finest (Hariharan et al. 2015)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hypercolumn(nn.Module):
    """Reduces every coarse level to one channel (1×1 convolution), enlarges it and joins it to the finest
    level.

    Reducing before enlarging keeps it cheap: at full size only one channel a level is ever held.

    Shapes: coarse[i] [B, C_i, h_i, w_i], finest [B, C, H, W] -> [B, C + number of levels, H, W].
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(c, 1, kernel_size=1) for c in channels)

    def forward(self, coarse: Sequence[Tensor], finest: Tensor) -> Tensor:
        size = finest.shape[2:]
        columns = [
            F.interpolate(reduce(level), size=size, mode="bilinear", align_corners=False)
            for reduce, level in zip(self.reduce, coarse, strict=True)
        ]
        return torch.cat([finest, *columns], dim=1)
