"""Adversarial examples: tiles changed, hardly to be seen, as suits a network least."""

import torch
from torch import nn

from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.losses.bce import bce


def fgsm(network: nn.Module, channels: Channels, batch: Batch, epsilon: float) -> torch.Tensor:
    """x + ε·sign(∂BCE/∂x) for every tile of `batch`, by the fast gradient sign method.

    What moves is the tile's own grey levels, before they become channels: the normalisation, the padding's reflection
    and a ramp times the image follow by themselves, and the depth stays. A grey level stays within its range, so that
    the example is a tile. The loss is over the tile's own pixels.

    The network is attacked in evaluation mode, as which it will predict: no batch statistics move, and no tile's
    example depends on its neighbours. Its parameters' gradients are never computed, and its mode is restored.

    Args:
        network: maps [B, C, H', W'] to logits [B, H', W'].
        channels: what it sees of a tile.
        batch: labelled tiles, attacked where they are right by their labels; behind them unlabelled ones, attacked
            where they are right by the network's own hard prediction.
        epsilon: the change of a grey level in [0, 1].

    Returns:
        Grey levels, fp32 [B, H, W] in 0 … 255, a constant; `channels` takes them as it takes the tiles.

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", ICLR 2015; Qiao et al. 2018 for what an
    unlabelled tile is attacked by.
    """
    grey = batch.images.float().requires_grad_()
    was_training = network.training
    network.eval()
    try:
        logits = channels.crop(network(channels(grey, batch.depths)))
        own = (logits[len(batch.targets) :] > 0).to(logits.dtype)
        loss = bce(logits, torch.cat([batch.salt(logits), own]))
        # With respect to the tiles alone: a backward pass would leave the attack's gradients with the weights.
        (gradient,) = torch.autograd.grad(loss, grey)
    finally:
        network.train(was_training)
    return (grey.detach() + 255 * epsilon * gradient.sign()).clamp_(0, 255)
