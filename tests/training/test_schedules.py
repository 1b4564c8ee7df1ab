import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from semisalt.config import CosineConfig, CyclicConfig
from semisalt.training.schedules import build_schedule, cosine_cycles, triangular2


def torch_rates(
    steps: int, build: type[torch.optim.lr_scheduler.LRScheduler], lr: float, **options: object
) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = build(optimiser, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("base", "peak", "size"), [(1e-4, 3e-4, 1500), (1e-3, 1e-2, 7), (0.1, 0.1, 1)])
def test_triangular2_equals_torch(base: float, peak: float, size: int) -> None:
    steps = 4 * 2 * size + 3
    expected = torch_rates(
        steps,
        torch.optim.lr_scheduler.CyclicLR,
        base,
        base_lr=base,
        max_lr=peak,
        step_size_up=size,
        mode="triangular2",
        cycle_momentum=False,
    )
    schedule = build_schedule(CyclicConfig(base=base, peak=peak, step_size=size), epochs=1, steps_per_epoch=1)
    assert [schedule(step) for step in range(steps)] == pytest.approx(expected, rel=1e-9)


def test_triangular2_of_a_long_training_stays_finite() -> None:
    assert triangular2(10_000_000, base=1e-4, peak=3e-4, step_size=1) == pytest.approx(1e-4)


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_cosine_equals_torchs_warm_restarts() -> None:
    expected = torch_rates(
        60, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, 3e-3, T_0=20, T_mult=1, eta_min=1e-5
    )
    config = CosineConfig(peak=3e-3, floor=1e-5, cycles=(4, 4, 4), warmup_epochs=0)
    schedule = build_schedule(config, epochs=12, steps_per_epoch=5)
    assert [schedule(step) for step in range(60)] == pytest.approx(expected, rel=1e-9)


def test_cosine_cycles_of_unequal_lengths_by_hand() -> None:
    rates = [cosine_cycles(s, floor=1.0, peak=3.0, lengths=(4, 2), warmup=0) for s in range(8)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([3, 2 + half, 2, 2 - half, 3, 2, 1, 1])


def test_warmup_climbs_in_equal_steps_to_the_peak() -> None:
    config = CosineConfig(peak=1.0, floor=0.0, warmup_epochs=1)
    schedule = build_schedule(config, epochs=3, steps_per_epoch=4)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert schedule(8) == pytest.approx(0.5)  # half of the remaining 8 steps
    assert schedule(12) == 0.0
    rates = [schedule(step) for step in range(4, 13)]
    assert rates == sorted(rates, reverse=True)


def test_warmup_leaves_half_of_a_short_first_cycle() -> None:
    schedule = build_schedule(CosineConfig(peak=1.0, warmup_epochs=5), epochs=1, steps_per_epoch=4)
    assert [schedule(step) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])


@given(
    cycles=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    steps=st.integers(1, 9),
    warmup=st.floats(0, 3),
    step=st.integers(0, 400),
)
def test_cosine_stays_between_zero_and_peak(cycles: list[int], steps: int, warmup: float, step: int) -> None:
    config = CosineConfig(peak=0.1, floor=0.01, cycles=tuple(cycles), warmup_epochs=warmup)
    rate = build_schedule(config, epochs=sum(cycles), steps_per_epoch=steps)(step)
    assert 0 < rate <= 0.1 + 1e-12


def test_each_restart_begins_lower() -> None:
    """Three cycles of four steps whose peaks halve; the first is warmed up for two steps."""
    rates = [cosine_cycles(s, floor=0.0, peak=8.0, lengths=(4, 4, 4), warmup=2, restart=0.5) for s in range(13)]
    high, low = (2 + math.sqrt(2)) / 4, (2 - math.sqrt(2)) / 4
    expected = [8 / 3, 16 / 3, 8, 4, 4, 4 * high, 2, 4 * low, 2, 2 * high, 1, 2 * low, 0]
    assert rates == pytest.approx(expected)


def test_a_restart_never_begins_under_the_floor() -> None:
    rates = [cosine_cycles(s, floor=1.0, peak=3.0, lengths=(2, 2, 2), warmup=0, restart=0.1) for s in range(6)]
    assert rates == pytest.approx([3, 2, 1, 1, 1, 1])


def test_the_configured_restart_reaches_the_schedule() -> None:
    config = CosineConfig(peak=1.0, floor=0.0, cycles=(2, 1), warmup_epochs=0, restart=0.25)
    schedule = build_schedule(config, epochs=3, steps_per_epoch=2)
    assert [schedule(step) for step in (0, 2, 4, 5)] == pytest.approx([1.0, 0.5, 0.25, 0.125])
