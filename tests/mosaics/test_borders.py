import numpy as np
import pytest
from scipy import stats
from scipy.fft import dct

from semisalt.mosaics.borders import DEPTH, FREEDOM, LEAST, covariance, fit, inner_cuts, oriented, strips
from tests.mosaics.surveys import layered


def learned(images):  # type: ignore[no-untyped-def]
    before, after = strips(images, 20, True), strips(images, 20, False)
    products, count = covariance(before.spectra, after.spectra)
    return fit(products / count), before.spectra, after.spectra


def test_strips_run_from_the_border_inwards_standardised_and_transformed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 9), np.uint8)
    for before, rows in ((True, [5, 4, 3, 2]), (False, [6, 7, 8, 9])):
        found = strips(images, 6, before)
        for tile in range(3):
            values = images[tile, rows].astype(float)
            values -= values[0].mean()
            values /= np.sqrt((values[:2] ** 2).mean())
            expected = dct(values, axis=1, norm="ortho")
            np.testing.assert_allclose(found.spectra[tile], expected, atol=1e-4)
        assert not found.quiet.any()


def test_a_border_without_signal_is_quiet() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 9), np.uint8)
    images[0, 6:8] = 100
    assert strips(images, 6, False).quiet.tolist() == [True, False]
    assert np.isfinite(strips(images, 6, False).spectra).all()


def test_the_search_runs_along_the_first_axis() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert oriented(images, "below").shape == (2, 3, 4)
    assert oriented(images, "right")[1, 3].tolist() == images[1, :, 3].tolist()


def test_the_ratio_is_that_of_gaussian_densities() -> None:
    images, _ = layered(4, (5, 5), (40, 12))
    model, before, after = learned(images)
    one, bias = model.features(before, before=True)
    other, bias_after = model.features(after, before=False)
    u = np.einsum("fkl,nlf->nfk", model.before, before).astype(float)
    v = np.einsum("fkl,nlf->nfk", model.after, after).astype(float)
    expected = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for x, y, r in zip(u[a].flat, v[b].flat, model.correlation.flat, strict=True):
                if r > LEAST:
                    joint = stats.multivariate_normal([0, 0], [[1, r], [r, 1]]).logpdf([x, y])
                    expected[a, b] += joint - stats.norm.logpdf(x) - stats.norm.logpdf(y)
    found = one[:3].astype(float) @ other[:3].T + bias[:3, None] + bias_after[:3]
    constant = -0.5 * np.log1p(-(model.correlation[model.correlation > LEAST].astype(float) ** 2)).sum()
    np.testing.assert_allclose(found + constant, expected, rtol=1e-3, atol=0.05)


def test_canonical_coordinates_are_white_and_correlated_as_said() -> None:
    images, _ = layered(40, (3, 3), (40, 12))
    model, before, after = learned(images)
    for wavenumber in (1, 5):
        u = before[:, :, wavenumber] @ model.before[wavenumber].T
        v = after[:, :, wavenumber] @ model.after[wavenumber].T
        both = np.concatenate([u, v], axis=1)
        second = both.T @ both / len(both)
        np.testing.assert_allclose(second[:DEPTH, :DEPTH], np.eye(DEPTH), atol=0.1)
        np.testing.assert_allclose(second[:DEPTH, DEPTH:], np.diag(model.correlation[wavenumber]), atol=0.1)


def test_true_joints_fit_and_false_ones_do_not() -> None:
    images, _ = layered(12, (3, 3), (40, 40))
    model, before, after = learned(images)
    shuffled = np.roll(after, 1, axis=0)
    assert model.mismatch(before, after).mean() == pytest.approx(1, abs=0.2)
    assert np.median(model.mismatch(before, shuffled)) > 5
    assert (model.robust_ratio(before, after) > 0).mean() > 0.99
    assert (model.robust_ratio(before, shuffled) < 0).mean() > 0.99


def test_the_robust_ratio_is_that_of_students_t() -> None:
    images, _ = layered(4, (5, 5), (40, 12))
    model, before, after = learned(images)
    one, other, correlation = model.coordinates(before[:2], after[1:3])
    size = len(correlation)
    found = model.robust_ratio(before[:2], after[1:3])
    for n in range(2):
        total = 0.0
        for x, y in ((one[n], other[n]), (other[n], one[n])):
            spread = np.diag(1 - correlation.astype(float) ** 2)
            given = stats.multivariate_t(correlation * x, spread, df=FREEDOM).logpdf(y)
            total += (given - stats.multivariate_t(np.zeros(size), np.eye(size), df=FREEDOM).logpdf(y)) / 2
        assert found[n] == pytest.approx(total, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("length", [8, 9, 11, 16, 101, 512])
def test_cuts_leave_a_strip_on_either_side(length: int) -> None:
    near, far = inner_cuts(length)
    assert near
    assert all(DEPTH <= cut <= length - DEPTH for cut in [*near, *far])
    assert far == [length - cut for cut in near]


def test_information_is_the_mean_log_likelihood_ratio_of_neighbours() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20_000, 2 * DEPTH, 5))
    values[:, DEPTH:] += 1.5 * values[:, :DEPTH]
    before, after = values[:, :DEPTH].astype(np.float32), values[:, DEPTH:].astype(np.float32)
    model = fit(covariance(before, after)[0])
    one, bias = model.features(before, before=True)
    other, bias_after = model.features(after, before=False)
    constant = -0.5 * np.log1p(-(model.correlation.astype(np.float64) ** 2)).sum()
    mean = float(((one * other).sum(axis=1) + bias + bias_after).mean()) + constant
    assert model.information == pytest.approx(mean, rel=0.02)
    assert model.information == pytest.approx(5 * DEPTH * 0.5 * np.log(1 + 1.5**2), rel=0.02)
