"""Probability maps: forward passes with mirrored views, averaged and stored as uint8 (p = value / 255)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semisalt.data.channels import Channels
from semisalt.data.tiles import TileSet
from semisalt.precision import Precision, autocast


@dataclass(frozen=True)
class Predictor:
    """How tiles are predicted: by which channels, on which device, in which precision, with or without mirroring."""

    channels: Channels
    device: torch.device
    precision: Precision
    batch: int
    flip: bool

    def __call__(self, network: nn.Module, tiles: TileSet) -> NDArray[np.float32]:
        """Salt probabilities, float32 [N, H, W]. The network is left in the mode it was in."""
        return self.judge(network, tiles)[0]

    @torch.inference_mode()
    def judge(self, network: nn.Module, tiles: TileSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Salt probabilities, float32 [N, H, W], and the agreement of each tile with its mirror image, float32 [N].

        The agreement is the IoU of the two views' masks at 0.5, 1 where both are empty; NaN without mirroring.
        """
        was_training = network.training
        network.eval()
        images = torch.from_numpy(tiles.images)
        depths = torch.from_numpy(tiles.depths) if tiles.depths is not None else None
        out = torch.empty(images.shape, dtype=torch.float32)
        agreement = torch.empty(len(tiles), dtype=torch.float32)
        for start in range(0, len(tiles), self.batch):
            part = slice(start, start + self.batch)
            x = self.channels(
                images[part].to(self.device),
                depths[part].to(self.device) if depths is not None else None,
            )
            probabilities, agrees = self._views(network, x)
            out[part], agreement[part] = probabilities.cpu(), agrees.cpu()
        network.train(was_training)
        return out.numpy(), agreement.numpy()

    def _views(self, network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with autocast(self.device, self.precision):
            plain = self.channels.crop(network(x).float().sigmoid())
            if not self.flip:
                return plain, plain.new_full((len(plain),), torch.nan)
            mirrored = self.channels.crop(network(x.flip(3)).float().sigmoid().flip(2))
        a, b = plain > 0.5, mirrored > 0.5
        union = (a | b).sum(dim=(1, 2))
        agreement = torch.where(union > 0, (a & b).sum(dim=(1, 2)) / union.clamp(min=1), 1.0)
        return (plain + mirrored) / 2, agreement


def quantise(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to the nearest of 0, 1/255, … 1, kept as uint8. Raises FloatingPointError for NaN."""
    if not np.isfinite(probabilities).all():
        raise FloatingPointError("probabilities that are not finite")
    return np.rint(probabilities * 255).astype(np.uint8)


def vote(maps: Iterable[NDArray[np.uint8]], weights: Sequence[float]) -> NDArray[np.uint8]:
    """Weighted mean of stored probabilities [N, H, W], rounded once; the maps are taken one at a time."""
    total: NDArray[np.float32] | float = 0.0
    for values, weight in zip(maps, weights, strict=True):
        total = total + np.float32(weight) * values
    return np.rint(total).astype(np.uint8)
