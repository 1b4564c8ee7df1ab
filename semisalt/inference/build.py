"""From a configuration to the objects that it describes."""

import torch
from torch import nn

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.inference.predict import Predictor
from semisalt.models import SaltUNet, build_unet
from semisalt.models.views import Views


def channels_of(config: Config, survey: Survey) -> Channels:
    """What a network of this configuration sees of this survey's tiles.

    Raises:
        UserError: the configuration wants depths, and the survey has none.
    """
    if config.channels.depth is True and survey.depth_range is None:
        raise UserError(f"channels.depth is true, but {survey.source} has no depths: set it to false or auto")
    return Channels(survey.labelled.shape, survey.depth_range if config.channels.depth else None, config.channels.ramp)


def build_network(config: Config, channels: Channels, *, weights: str | None = None) -> nn.Module:
    """The configured network, the views of a co-training as one; `weights` overrides where the encoders' come from.

    Raises:
        UserError: encoder, stem and weights do not go together, or the weights are not to be had.
    """
    if config.method == "co_training":
        views = [_build_one(config, channels, weights) for _ in range(config.co_training.views)]
        # Twins would agree about everything, and be blind to the same examples.
        first, second = (view.state_dict() for view in views[:2])
        if all(torch.equal(tensor, second[name]) for name, tensor in first.items()):
            raise UserError(
                f"model.weights: {config.model.weights} gives all views the same weights, decoders included, and they "
                "would never disagree: give an encoder's, or begin with a co-training run by --from"
            )
        return Views(views)
    return _build_one(config, channels, weights)


def _build_one(config: Config, channels: Channels, weights: str | None) -> SaltUNet:
    model = config.model
    try:
        return build_unet(
            model.encoder,
            in_channels=channels.count,
            weights=model.weights if weights is None else weights,
            stem=model.stem,
            decoder_channels=model.decoder_channels,
            scse_encoder=model.scse_encoder,
            scse_decoder=model.scse_decoder,
            hypercolumn=model.hypercolumn,
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from None


def predictor_of(config: Config, channels: Channels, device: torch.device) -> Predictor:
    """How networks of a settled configuration predict. Raises ValueError while the precision is `auto`."""
    if config.training.precision == "auto":
        raise ValueError("the configuration is not settled: training.precision is 'auto'")
    return Predictor(channels, device, config.training.precision, config.inference.batch, config.inference.flip)
