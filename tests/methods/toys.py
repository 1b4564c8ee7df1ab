"""Networks and batches so simple that a step can be calculated by hand."""

import numpy as np
import torch
from torch import nn

from semisalt.data.batches import Batch
from semisalt.data.channels import Channels

SHAPE = (20, 24)


class Pointwise(nn.Module):
    """Logits = a · image channel + b on the tile's own pixels, and what is made up on the padding."""

    def __init__(self, channels: Channels, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))
        self.padding = torch.ones(channels.padded)
        channels.crop(self.padding[None])[:] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x[:, 0] + self.b - 1e4 * self.padding * x[:, 0]


def toy_batch(labelled: int, unlabelled: int, *, low: int = 0, high: int = 256, seed: int = 0) -> Batch:
    """Random tiles of SHAPE with grey levels from `low` to below `high`, random masks, depths of 0 to 1,000.

    The strong views are negatives of the weak ones.
    """
    generator = np.random.default_rng(seed)
    count = labelled + unlabelled
    images = generator.integers(low, high, (count, *SHAPE), dtype=np.uint8)
    masks = (generator.random((labelled, *SHAPE)) < 0.4).astype(np.uint8) * np.uint8(255)
    depths = generator.uniform(0, 1000, count).astype(np.float32)
    strong = torch.from_numpy((low + high - 1 - images[labelled:].astype(int)).astype(np.uint8))
    tensors = (torch.from_numpy(part) for part in (images, masks, depths))
    return Batch(*tensors, torch.arange(count), strong)


def moved_statistics(network: nn.Module) -> list[int]:
    """How often each batch normalisation has moved its statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return [int(norm.num_batches_tracked or 0) for norm in norms]
