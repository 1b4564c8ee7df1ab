"""Timing on a machine that others use too: what is compared runs in turn, so that noise meets all of it alike."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

# Three rounds are the fewest that have a median which is not their mean or an extreme.
LEAST_ROUNDS = 3
# A call shorter than this is repeated within its turn, until the turn lasts as long as _TURN.
_SHORT, _TURN = 0.05, 0.25
# Calls before the first that counts: the heap has its size only after the second training step.
_WARMUP = 3


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Action:
    """Something to be timed; where one call is short, at least `least` of them make a turn."""

    run: Callable[[], object]
    least: int = 1


def spread(samples: Seconds) -> Spread:
    """Median and quartiles of `samples`."""
    low, median, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return Spread(float(median), float(low), float(high))


def interleaved(
    actions: Mapping[str, Action], *, seconds: float, device: torch.device, announce: Callable[[str], None]
) -> dict[str, Seconds]:
    """Time all actions in turn, round after round (A B C A B C …).

    Each is called three times beforehand. The rounds go on until another one would end after `seconds`, warm-up
    included, but there are three at least.

    Returns:
        For each action its seconds a call, [rounds]: values at the same place were measured side by side, so that
        their ratio is free of the machine's slower moods.
    """
    begin = time.perf_counter()
    calls = {name: _calls(action, device) for name, action in actions.items()}
    samples: dict[str, list[float]] = {name: [] for name in actions}
    rounds, longest = 0, 0.0
    while rounds < LEAST_ROUNDS or time.perf_counter() - begin + longest <= seconds:
        started = time.perf_counter()
        for name, action in actions.items():
            samples[name].append(timed(action, calls[name], device))
        rounds, longest = rounds + 1, max(longest, time.perf_counter() - started)
        if rounds == 1:
            left = int((seconds - (time.perf_counter() - begin)) // longest)
            announce(f"a round takes {longest:.1f} s; about {max(LEAST_ROUNDS - 1, left)} more")
    return {name: np.array(values) for name, values in samples.items()}


def _calls(action: Action, device: torch.device) -> int:
    """How many calls make a turn of this action."""
    for _ in range(_WARMUP - 1):
        timed(action, 1, device)
    once = timed(action, 1, device)
    return 1 if once >= _SHORT else max(math.ceil(_TURN / once), action.least)


def timed(action: Action, calls: int, device: torch.device) -> float:
    """Seconds a call, the device's queue drained before and after."""
    _drain(device)
    begin = time.perf_counter()
    for _ in range(calls):
        action.run()
    _drain(device)
    return (time.perf_counter() - begin) / calls


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
