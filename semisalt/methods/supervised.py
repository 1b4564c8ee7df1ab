"""Plain supervision: the labelled tiles and a mix of losses."""

from torch import nn

from semisalt.config import LossConfig
from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.losses.mix import mix
from semisalt.methods import Losses, Method, Progress


class Supervised(Method):
    """The write-up's training: BCE first, then a mix with the Lovász hinge from the switch epoch on."""

    def __init__(self, network: nn.Module, channels: Channels, loss: LossConfig) -> None:
        self.networks = [network]
        self.followers: list[nn.Module] = []
        self.channels = channels
        self.loss = loss
        self._plain = network

    def step(self, batch: Batch, progress: Progress) -> Losses:
        """Loss over the tiles' own pixels: padding never counts."""
        logits = self.networks[0](self.channels(batch.images, batch.depths))
        cropped = self.channels.crop(logits)
        total, parts = mix(cropped, batch.salt(cropped), self.loss.at(progress.epoch))
        return Losses(total, parts)

    def predictor(self) -> nn.Module:
        """The trained network."""
        return self._plain
