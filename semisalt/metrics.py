"""Scores of masks against the truth: the competition's precision, IoU, Dice, and their bootstrap intervals.

Masks are `[N, H, W]` arrays of bool or integers; any value but zero is salt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Masks = NDArray[np.uint8] | NDArray[np.bool_]

N_LEVELS = 10  # the IoU levels .50, .55 … .95


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"

    @property
    def signed(self) -> str:
        """As text, for a difference: '+.018 [+.011, +.026]'."""
        value, low, high = (f"{part:+.3f}".replace("0.", ".", 1) for part in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Scores:
    """What a set of predicted masks is worth. `dataclasses.asdict` makes it ready for JSON.

    `false_salt_share` is the share of the empty tiles that were given salt, `missed_salt_share` the share of
    the tiles with salt that were predicted empty; a share of no tiles at all is 0.
    """

    precision: Interval
    mean_iou: float
    dice: float
    false_salt_share: float
    missed_salt_share: float
    n: int


def precision(prediction: Masks, truth: Masks) -> NDArray[np.float64]:
    """The competition's score of each tile: the mean over t = .50, .55 … .95 of [IoU > t], strictly greater.

    Both masks empty give 1, exactly one of them empty gives 0. IoU > t is decided in integers, so a tile that
    lies exactly on a level is not over it.

    Returns float64 `[N]`, each a multiple of .1. Raises ValueError for masks of unfit shape or type.
    Source: the evaluation page of the TGS Salt Identification Challenge.
    """
    return levels_passed(*overlap(prediction, truth)) / N_LEVELS


def iou(prediction: Masks, truth: Masks) -> NDArray[np.float64]:
    """|P ∩ T| / |P ∪ T| of each tile, float64 `[N]`; 1 where both masks are empty."""
    intersection, union = overlap(prediction, truth)
    return _ratio(intersection, union)


def dice(prediction: Masks, truth: Masks) -> NDArray[np.float64]:
    """2 |P ∩ T| / (|P| + |T|) of each tile, float64 `[N]`; 1 where both masks are empty."""
    intersection, union = overlap(prediction, truth)
    return _ratio(2 * intersection, intersection + union)


def overlap(prediction: Masks, truth: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """|P ∩ T| and |P ∪ T| of each tile in pixels, int64 `[N]` each."""
    if prediction.shape != truth.shape or prediction.ndim != 3:
        raise ValueError(f"masks must both be [N, H, W]; got {prediction.shape} and {truth.shape}")
    p, t = _packed(prediction), _packed(truth)
    intersection = np.bitwise_count(p & t).sum(axis=1, dtype=np.int64)
    union = np.bitwise_count(p | t).sum(axis=1, dtype=np.int64)
    return intersection, union


def levels_passed(intersection: NDArray[np.int64], union: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the ten levels an IoU of intersection / union exceeds, 0 … 10; 10 for an empty union.

    With t = k/20, IoU > t means k < 20 · intersection / union: ceil(20 · intersection / union) − 10 levels.
    """
    ceiling = -(-20 * intersection // np.maximum(union, 1))
    return np.where(union == 0, N_LEVELS, np.clip(ceiling - 10, 0, N_LEVELS))


def bootstrap(values: NDArray[np.float64], seed: int = 0, draws: int = 2000, level: float = 0.95) -> Interval:
    """The mean of `values` `[N]` with its percentile interval over resampled tiles.

    Raises ValueError for no values, or values that are not finite.
    """
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"a bootstrap needs one finite value for each of at least one tile; got shape {values.shape}")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, mean, mean)
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=draws,
        batch=max(1, 1_000_000 // len(values)),  # some 16 MB of indices and values at a time
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def paired_bootstrap(
    a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0, draws: int = 2000, level: float = 0.95
) -> Interval:
    """The mean of a − b over the same tiles, with its percentile interval: did `a` beat `b`?

    Raises ValueError where the two are not scores of the same number of tiles.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired scores must be of the same tiles; got shapes {a.shape} and {b.shape}")
    return bootstrap(a - b, seed, draws, level)


def summary(prediction: Masks, truth: Masks, seed: int = 0) -> Scores:
    """All scores of a set of tiles at once."""
    intersection, union = overlap(prediction, truth)
    predicted, salty = _has_salt(prediction), _has_salt(truth)
    return Scores(
        precision=bootstrap(levels_passed(intersection, union) / N_LEVELS, seed),
        mean_iou=float(_ratio(intersection, union).mean()),
        dice=float(_ratio(2 * intersection, intersection + union).mean()),
        false_salt_share=_share(predicted[~salty]),
        missed_salt_share=_share(~predicted[salty]),
        n=len(truth),
    )


def _packed(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """One bit a pixel, `[N, bytes]`: counting bits costs a tenth of counting pixels."""
    if masks.dtype.kind not in "bui":
        raise ValueError(f"masks must be bool or integer, not {masks.dtype}: apply a threshold first")
    return np.packbits(masks.reshape(len(masks), masks.shape[1] * masks.shape[2]), axis=1)


def _has_salt(masks: Masks) -> NDArray[np.bool_]:
    return np.asarray(_packed(masks).any(axis=1))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _short(value: float) -> str:
    text = f"{value:z.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text
