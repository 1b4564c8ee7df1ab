"""From tiles to what the network sees: channels, normalisation, padding; and back to the tile's own size."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

# Mean and standard deviation of ImageNet's pixels, over its colours. An encoder that was trained on another scale (the
# lite ones: 0.5 and 0.5) finds its own again by batch normalisation, which follows every first convolution.
GREY_MEAN = 0.449
GREY_STD = 0.226
_STRIDE = 32


@dataclass(frozen=True)
class Channels:
    """How a batch of tiles becomes the network's input.

    Channel 0 is the image; then, where asked for, the relative depth (d − min)/(max − min) and a ramp 0.001…1 down the
    rows (CoordConv, Liu et al. 2018), or image × ramp as in the 27th place's code. Both sides are padded by reflection
    to a multiple of 32, half before and half after; the ramp runs over the padded rows.
    """

    shape: tuple[int, int]
    depth_range: tuple[float, float] | None
    ramp: Literal["none", "rows", "image_rows"]

    @property
    def count(self) -> int:
        """Number of channels."""
        return 1 + (self.depth_range is not None) + (self.ramp != "none")

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        height, width = self.shape
        return height + -height % _STRIDE, width + -width % _STRIDE

    def __call__(self, images: torch.Tensor, depths: torch.Tensor | None) -> torch.Tensor:
        """Turn uint8 [B, H, W] and depths [B] into float32 [B, C, H', W'], channels last in memory.

        Where tiles are made of parts, each pixel may have a depth of its own: [B, H, W].

        Raises:
            ValueError: the tiles have another size, or the depths that the network learned from are missing.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"tiles of {tuple(images.shape[1:])} given, the network was built for {self.shape}")
        grey = self._pad(images).float().div_(255)
        planes = [grey.sub(GREY_MEAN).div_(GREY_STD)]
        if self.depth_range is not None:
            if depths is None:
                raise ValueError("this network uses the tiles' depths, and none are given")
            depth = relative_depth(depths, self.depth_range)
            planes.append(self._pad(depth) if depth.ndim == 3 else depth[:, None, None].expand_as(grey))
        if self.ramp != "none":
            rows = torch.linspace(0.001, 1.0, self.padded[0], device=images.device)[None, :, None].expand_as(grey)
            planes.append(rows if self.ramp == "rows" else grey * rows)
        return torch.stack(planes, dim=1).contiguous(memory_format=torch.channels_last)

    def crop(self, maps: torch.Tensor) -> torch.Tensor:
        """Cut [B, H', W'] back to the tiles' own [B, H, W]."""
        (height, width), (top, left) = self.shape, self._offset
        return maps[:, top : top + height, left : left + width]

    @property
    def _offset(self) -> tuple[int, int]:
        return (self.padded[0] - self.shape[0]) // 2, (self.padded[1] - self.shape[1]) // 2

    def _pad(self, images: torch.Tensor) -> torch.Tensor:
        # By index, since F.pad refuses to reflect a tile narrower than its padding.
        rows, columns = (
            torch.from_numpy(_reflected(self.shape[axis], self.padded[axis])).to(images.device) for axis in (0, 1)
        )
        return images[:, rows[:, None], columns]


def relative_depth(depths: torch.Tensor, depth_range: tuple[float, float]) -> torch.Tensor:
    """(d − min)/(max − min) as float32; 0 where all depths are equal."""
    low, high = depth_range
    return (depths.float() - low) / max(high - low, 1e-6)


def _reflected(size: int, padded: int) -> NDArray[np.int64]:
    """Index of the source pixel of each padded one, mirrored at the edges."""
    before = (padded - size) // 2
    mode: Literal["reflect", "edge"] = "reflect" if size > 1 else "edge"
    return np.pad(np.arange(size), (before, padded - size - before), mode=mode)
