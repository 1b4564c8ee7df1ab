"""The probability that a candidate pair is true: a logistic model, fitted on synthetic surveys.

`scripts/calibrate_mosaics.py` made the constants.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from semisalt.mosaics.borders import Array
from semisalt.mosaics.candidates import Candidates

RATIO_LIMIT = 60.0
INFORMATION = (10.0, 110.0)  # nats; the constants are fitted within

ALONE = (0.8837, 0.0681, 0.77, -0.8842, 0.0148, -0.1498)
IN_A_SQUARE = (0.454, 0.0748, 0.663, 0.9245, 0.0103, -0.1252, 1.0026, -0.6455, -0.1399, 0.3279)


def features(found: Candidates, support: Array | None = None) -> NDArray[np.float64]:
    """[P, 6] or [P, 10]: what speaks for the candidates, and how much that counts where a joint tells much.

    One, the log likelihood ratio (limited), the margin, the log of the information, and ratio and margin times that
    log; then the support [P, 2] of squares, and that times the log. A rival that fits nearly as well means more on
    quiet tiles, where all that adjoin fit closely, than on noisy ones.
    """
    clarity = np.log(np.clip(found.information, *INFORMATION))
    ratio = np.clip(found.ratio, -RATIO_LIMIT, RATIO_LIMIT)
    columns = [np.ones_like(ratio), ratio, found.margin, clarity, ratio * clarity, found.margin * clarity]
    if support is not None:
        columns += [*support.T, *(support * clarity[:, None]).T]
    return np.stack(columns, axis=1).astype(np.float64)


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
