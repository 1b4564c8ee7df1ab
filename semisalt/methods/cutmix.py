"""CutMix of unlabelled tiles: a box of one tile is replaced by that of another, image and target alike."""

import math

import torch


def boxes(
    count: int, shape: tuple[int, int], probability: float, area: tuple[float, float], device: torch.device
) -> torch.Tensor:
    """A random box for each tile with `probability`, bool [count, H, W], true inside; no box where luck says so.

    A box has a share of the tile's area within `area` and sides in a ratio of 0.3 to 1/0.3 (as far as the tile allows),
    drawn with torch's generator. Source: Yun et al., "CutMix", ICCV 2019; French et al. 2020 for consistency.
    """
    height, width = shape
    lots = torch.rand(count, 5)  # on the CPU, whose generator a checkpoint keeps
    sizes = (area[0] + (area[1] - area[0]) * lots[:, 1]) * height * width
    ratio = torch.exp((2 * lots[:, 2] - 1) * -math.log(0.3))
    tall = torch.sqrt(sizes * ratio).clamp(max=height).round().clamp(min=1)
    wide = (sizes / tall).clamp(max=width).round().clamp(min=1)
    top, left = (lots[:, 3] * (height - tall + 1)).floor(), (lots[:, 4] * (width - wide + 1)).floor()
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    top, left, tall, wide = (part[:, None, None] for part in (top, left, tall, wide))
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    return (inside & (lots[:, 0] < probability)[:, None, None]).to(device)


def paste(tiles: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """`tiles` [B, H, W] with the boxes filled from their partners, the tiles in reverse order."""
    return torch.where(box, tiles.flip(0), tiles)
