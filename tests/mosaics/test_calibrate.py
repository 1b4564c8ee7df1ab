import numpy as np
from scipy.special import expit

from semisalt.mosaics.calibrate import features, fit_logistic, log_odds
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


def test_each_clue_raises_the_odds() -> None:
    base = log_odds(features(np.float32([5]), np.float32([5]), np.float32([[0, 0]])))
    for ratio, margin, support in ((9, 5, (0, 0)), (5, 9, (0, 0)), (5, 5, (4, 0)), (5, 5, (0, 4))):
        more = log_odds(features(np.float32([ratio]), np.float32([margin]), np.float32([support])))
        assert more > base
    assert log_odds(features(np.float32([9]), np.float32([5]))) > log_odds(features(np.float32([5]), np.float32([5])))
