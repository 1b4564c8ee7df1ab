"""The weight of what is learned from unlabelled tiles, over the training."""

import math


def ramp(share: float, length: float) -> float:
    """exp(−5(1 − t)²) with t = share / length, and 1 from t = 1 on (Laine & Aila 2017).

    `share` is the share of the training that is done, `length` the share over which the weight rises; 0: 1 at once.
    """
    t = min(1.0, share / length) if length else 1.0
    return math.exp(-5 * (1 - t) ** 2)
