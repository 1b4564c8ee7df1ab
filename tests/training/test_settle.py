import pytest
import torch

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.precision import Choice
from semisalt.recipe import differences
from semisalt.training import settle as module
from semisalt.training.settle import probe, settle
from tests.tiny import tiny_channels, tiny_config

CPU = torch.device("cpu")
OPEN = tiny_config(channels={"depth": "auto"}, training={"precision": "auto", "compile": "auto"})


def test_everything_open_is_settled_with_a_reason(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", lambda *_: Choice("bf16", "because"))
    settled = settle(OPEN, survey, CPU)
    assert settled.config.channels.depth is True
    assert settled.config.training.precision == "bf16"
    assert settled.config.training.compile is False
    assert len(settled.reasons) == 3
    assert "precision bf16: because" in settled.reasons
    assert "auto" not in str(settled.config)
    assert differences(OPEN, settled.config) == []
    assert Config.model_validate(settled.config.model_dump()) == settled.config


def test_what_is_fixed_stays(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Choice:
        raise AssertionError("nothing was left to measure")

    monkeypatch.setattr(module, "probe", refuse)
    config = tiny_config(channels={"depth": False}, training={"compile": True})
    assert settle(config, survey, CPU) == module.Settled(config, ())


def test_probe_measures_the_configured_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def choose(network: torch.nn.Module, inputs: torch.Tensor) -> Choice:
        seen["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        seen["shape"] = tuple(inputs.shape)
        return Choice("fp32", "")

    monkeypatch.setattr(module, "choose_precision", choose)
    assert probe(OPEN, tiny_channels(), CPU) == Choice("fp32", "")
    assert seen["shape"] == (8, 3, 32, 32)
    assert seen["parameters"] > 100_000
