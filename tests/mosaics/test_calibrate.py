import numpy as np
import pytest
from scipy.special import expit

from semisalt.mosaics.calibrate import features, fit_logistic, log_odds
from semisalt.mosaics.candidates import Candidates
from semisalt.mosaics.match import distinct, settled
from tests.mosaics.surveys import synthetic


def test_probabilities_are_true_shares_on_a_survey_that_they_were_not_fitted_on() -> None:
    images, places = synthetic(400, 31, (101, 101))
    rng = np.random.default_rng(0)
    noisy = np.clip(images + rng.normal(0, 5, images.shape) * (images.max(axis=(1, 2), keepdims=True) > 0), 0, 255)
    images = noisy.astype(np.uint8)
    _, found, odds = settled(images, distinct(images))
    probability = expit(np.concatenate(odds).astype(np.float64))
    truth = np.concatenate(
        [
            ((places[part.first] + np.array(step)) == places[part.second]).all(axis=1)
            for part, step in zip(found, ((0, 0, 1), (0, 1, 0)), strict=True)
        ]
    )
    assert truth.sum() > 300
    accepted = probability >= 0.97
    assert truth[accepted].mean() > 0.998
    assert abs(probability[accepted].mean() - truth[accepted].mean()) < 0.003
    assert abs(probability.sum() - truth.sum()) < 0.05 * truth.sum()
    loss = -np.where(truth, np.log(probability + 1e-12), np.log1p(-probability + 1e-12)).mean()
    share = truth.mean()
    assert loss < 0.1 * -(share * np.log(share) + (1 - share) * np.log(1 - share))


def test_the_fit_finds_the_weights_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.ones((40_000, 1)), rng.standard_normal((40_000, 2))], axis=1)
    weights = np.array([-1.0, 2.0, 0.5])
    truth = rng.random(len(values)) < expit(values @ weights)
    np.testing.assert_allclose(fit_logistic(values, truth), weights, atol=0.08)


def test_a_separable_case_stays_finite() -> None:
    values = np.array([[1.0, -2.0], [1.0, 2.0]])
    assert np.isfinite(fit_logistic(values, np.array([False, True]))).all()


def made(ratio: float, margin: float, information: float) -> Candidates:
    values = (np.array([value], np.float32) for value in (ratio, margin, information))
    return Candidates(np.array([0]), np.array([1]), *values)


@pytest.mark.parametrize("information", [1, 10, 25, 60, 110, 200])
def test_each_clue_raises_the_odds(information: float) -> None:
    base = log_odds(features(made(5, 5, information), np.float32([[0, 0]])))
    for ratio, margin, support in ((9, 5, (0, 0)), (5, 9, (0, 0)), (5, 5, (4, 0)), (5, 5, (0, 4))):
        more = log_odds(features(made(ratio, margin, information), np.float32([support])))
        assert more > base, (ratio, margin, support)
    alone = log_odds(features(made(5, 5, information)))
    assert alone < log_odds(features(made(9, 5, information)))
    assert alone < log_odds(features(made(5, 9, information)))


def test_a_rival_counts_for_less_on_noisy_tiles() -> None:
    # The same ratio, and a margin of 10 nats: more of it can be chance where joints tell 90 than where they tell 25.
    noisy, clean = (log_odds(features(made(20, 10, information))) for information in (25, 90))
    assert noisy > clean
