"""Settling what a configuration leaves open (`auto`), before a run starts."""

from dataclasses import dataclass

import torch

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey
from semisalt.inference.build import build_network, channels_of
from semisalt.precision import Choice, choose_precision

# Enough tiles that the probe sees the kernels that a whole batch would use.
_PROBE_TILES = 8


@dataclass(frozen=True)
class Settled:
    """A configuration without `auto`, and a sentence for each choice made."""

    config: Config
    reasons: tuple[str, ...]


def settle(config: Config, survey: Survey, device: torch.device) -> Settled:
    """Choose depth (where the survey has any), precision (by a probe of this network on this device), compilation."""
    reasons = []
    if config.channels.depth == "auto":
        known = survey.depth_range is not None
        reasons.append("depth channel on: the survey has depths" if known else "no depth channel: no depths")
        config = _with(config, "channels", depth=known)
    if config.training.precision == "auto":
        choice = probe(config, channels_of(config, survey), device)
        reasons.append(f"precision {choice.precision}: {choice.reason}")
        config = _with(config, "training", precision=choice.precision)
    if config.training.compile == "auto":
        on_gpu = device.type == "cuda"
        reasons.append(f"torch.compile {'on: this is a GPU' if on_gpu else 'off: this is no GPU'}")
        config = _with(config, "training", compile=on_gpu)
    loss, epochs = config.loss, config.training.epochs
    if loss.switch_epoch >= epochs and loss.finish != loss.start:
        reasons.append(f"loss.finish is never reached: loss.switch_epoch is {loss.switch_epoch}, of {epochs} epochs")
    return Settled(config, tuple(reasons))


def probe(config: Config, channels: Channels, device: torch.device) -> Choice:
    """Time the configured network in both precisions on a few empty tiles."""
    network = build_network(config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    images = torch.zeros((_PROBE_TILES, *channels.shape), dtype=torch.uint8, device=device)
    return choose_precision(network, channels(images, torch.zeros(_PROBE_TILES, device=device)))


def _with(config: Config, section: str, **changes: bool | str) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})
