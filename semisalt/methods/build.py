"""The method that a configuration names."""

from torch import nn

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.methods import Method
from semisalt.methods.co_training import CoTraining
from semisalt.methods.mean_teacher import MeanTeacher
from semisalt.methods.supervised import Supervised
from semisalt.models.views import Views


def build_method(network: nn.Module, channels: Channels, config: Config) -> Method:
    """How `network`, as inference.build.build_network makes it for this configuration, learns."""
    if config.method == "mean_teacher":
        return MeanTeacher(network, channels, config)
    if config.method == "co_training":
        assert isinstance(network, Views)  # noqa: S101  # build_network makes them
        return CoTraining(network, channels, config)
    return Supervised(network, channels, config.loss)
