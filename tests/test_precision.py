import pytest
import torch
from torch import nn

from semisalt import precision as module
from semisalt.precision import autocast, choose_precision, median_seconds

CPU = torch.device("cpu")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"), [(1.0, 0.5, "bf16"), (1.0, 0.97, "fp32"), (1.0, 2.0, "fp32"), (1.05, 1.0, "fp32")]
)
def test_bf16_must_gain_five_percent(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, chosen: str) -> None:
    seconds = {"fp32": fp32, "bf16": bf16}
    monkeypatch.setattr(module, "_step_seconds", lambda _network, _inputs, name: seconds[name])
    choice = choose_precision(small(), torch.zeros(2, 1, 8, 8))
    assert choice.precision == chosen
    assert f"{fp32 / bf16:.2f}" in choice.reason


def test_probe_is_not_misled_by_a_busy_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first pair is the warm-up; later one run of each precision is disturbed.
    seconds = {"fp32": iter([9.0, 1.0, 5.0, 1.0]), "bf16": iter([9.0, 0.5, 0.5, 7.0])}
    monkeypatch.setattr(module, "_step_seconds", lambda _network, _inputs, name: next(seconds[name]))
    assert "2.00×" in choose_precision(small(), torch.zeros(2, 1, 8, 8), repeats=3).reason


def test_probe_leaves_no_trace_on_the_network() -> None:
    network = small().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    choice = choose_precision(network, torch.randn(2, 1, 8, 8), repeats=1)
    assert choice.precision in ("fp32", "bf16")
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training


def test_autocast_casts_products_only_when_asked() -> None:
    layer = nn.Linear(2, 2)
    with autocast(CPU, "bf16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_median_ignores_the_warm_up_and_one_slow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 100, 101, 101, 151, 151, 153])  # the warm-up takes 100, then 1, 50, 2
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    assert median_seconds(lambda: None, CPU, repeats=3) == 2
