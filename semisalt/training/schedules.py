"""Learning rates as pure functions of the step."""

import math
from collections.abc import Callable
from functools import partial

from semisalt.config import CosineConfig, CyclicConfig

Schedule = Callable[[int], float]


def triangular2(step: int, *, base: float, peak: float, step_size: int) -> float:
    """Cyclic rate: base → peak → base in 2 · step_size steps, the height halved with each cycle.

    lr = base + (peak − base) · max(0, 1 − |step/step_size − 2·cycle − 1|) / 2^cycle (Smith 2017, 'triangular2').
    """
    cycle, position = divmod(step, 2 * step_size)
    height = 1 - abs(position / step_size - 1)
    return base + math.ldexp((peak - base) * height, -cycle)


def cosine_cycles(
    step: int, *, floor: float, peak: float, lengths: tuple[int, ...], warmup: int, restart: float = 1.0
) -> float:
    """Cosine cycles with warm restarts; the first begins with a linear warm-up.

    Args:
        step: from 0; past the last cycle the rate stays at the floor.
        floor: rate at the end of each cycle.
        peak: rate at the start of the first cycle.
        lengths: steps of each cycle.
        warmup: steps of the warm-up, within the first cycle.
        restart: each further cycle starts at this share of the peak before it.

    Source: SGDR, Loshchilov & Hutter 2017.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    start = warmup
    end = 0
    for cycle, length in enumerate(lengths):
        end += length
        top = max(floor, peak * restart**cycle)
        if step < end:
            return floor + (top - floor) * 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))
        start = end
    return floor


def build_schedule(config: CyclicConfig | CosineConfig, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """The configured schedule for a training of so many steps."""
    if isinstance(config, CyclicConfig):
        return lambda step: triangular2(step, base=config.base, peak=config.peak, step_size=config.step_size)
    lengths = tuple(cycle * steps_per_epoch for cycle in config.cycles or (epochs,))
    # A training cut down to one epoch still gets a descent.
    warmup = min(round(config.warmup_epochs * steps_per_epoch), lengths[0] // 2)
    return partial(
        cosine_cycles,
        floor=config.floor,
        peak=config.peak,
        lengths=lengths,
        warmup=warmup,
        restart=config.restart,
    )
