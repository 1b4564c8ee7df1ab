"""The average of a network's weights along its training."""

from timm.utils.model_ema import ModelEmaV3
from torch import nn


class Average(ModelEmaV3):
    """Exponential moving average of a network: weights and float buffers (batch-norm statistics), kept in eval mode.

    After the update of step t (from 0) it is d · average + (1 − d) · network, d = min(1 − 1/(t + 1), decay): it soon
    forgets where the training began. Integer buffers are copied. Averaging the weights alone, and letting the teacher
    make batch statistics of its own, is a known way to lose tens of points.

    Source: Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017; the implementation is timm's.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, decay=decay, use_warmup=True, warmup_power=1.0)
        self.module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Average":  # noqa: ARG002  # torch's signature
        """Stay in eval mode, whatever is asked for."""
        return super().train(False)

    def follow(self, network: nn.Module, step: int) -> None:
        """Take in the network after the optimiser's step `step`, from 0."""
        self.update(network, step=step + 1)
