"""The probability that a candidate pair is true: a logistic model, fitted on synthetic surveys.

`scripts/calibrate_mosaics.py` made the constants.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from semisalt.mosaics.borders import Array

RATIO_LIMIT = 60.0

ALONE = (-2.2654, 0.1795, 0.2211)
IN_A_SQUARE = (1.5645, 0.1505, 0.1928, 0.5886, 0.1772)


def features(ratio: Array, margin: Array, support: Array | None = None) -> NDArray[np.float64]:
    """[P, 3] or [P, 5]: one, the log likelihood ratio (limited), the margin, and the support [P, 2] of squares."""
    columns = [np.ones_like(ratio), np.clip(ratio, -RATIO_LIMIT, RATIO_LIMIT), margin]
    return np.stack(columns if support is None else [*columns, *support.T], axis=1).astype(np.float64)


def log_odds(values: NDArray[np.float64]) -> Array:
    """[P]: calibrated log odds of pairs with these `features`."""
    weights = ALONE if values.shape[1] == len(ALONE) else IN_A_SQUARE
    return np.asarray(values @ np.array(weights), np.float32)


def fit_logistic(values: NDArray[np.float64], truth: NDArray[np.bool_], ridge: float = 1.0) -> NDArray[np.float64]:
    """Weights [D] of a logistic regression of `truth` [P] on features [P, D]; a little ridge keeps them finite."""
    sign = np.where(truth, 1.0, -1.0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        agreement = sign * (values @ weights)
        slope = -sign * expit(-agreement)
        return float(
            np.logaddexp(0, -agreement).sum() + ridge * weights @ weights
        ), values.T @ slope + 2 * ridge * weights

    found = minimize(loss, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x, np.float64)
