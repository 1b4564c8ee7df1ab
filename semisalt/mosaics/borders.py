"""How a section goes on beyond a tile's border, learned from cuts inside of the tiles themselves.

A strip is the few rows (or columns) beside a border, the border first. Strips are standardised, which takes each
tile's unknown stretch (gain and offset) away, and transformed along the border (DCT); at each wavenumber the strips
on either side of a joint are taken for jointly Gaussian. The log likelihood ratio of "these two adjoin" against
"these two have nothing in common" is then a scalar product of two feature vectors, so that all pairs are compared by
matrix products. It generalises the linear extrapolation 2 · edge − next, whose weights it learns for each wavenumber.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from semisalt.mosaics.grid import Direction

Array = NDArray[np.float32]

DEPTH = 4  # rows or columns in a strip; six bring hardly more
SMALLEST = 2 * DEPTH  # pixels of a tile's side
QUIET = 2.0  # grey levels (rms): a border below it, in water or muted, says nothing about its neighbour
NOTABLE = 0.3  # canonical correlation of what can be predicted at all
LEAST = 0.2  # canonical correlation below which a feature is left out
FREEDOM = 5.0  # degrees of freedom of the robust comparison
RIDGE = 1e-3  # of the mean variance


@dataclass(frozen=True, eq=False)
class Strips:
    """Standardised strips of N tiles, transformed along the border.

    Attributes:
        spectra: [N, DEPTH, F], by wavenumber.
        quiet: [N], true where there is no signal to speak of.
    """

    spectra: Array
    quiet: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Continuation:
    """A Gaussian model of the strips on either side of a joint: their canonical coordinates at each wavenumber.

    Attributes:
        before, after: [F, DEPTH, DEPTH], the maps (strip to coordinates) on either side.
        correlation: [F, DEPTH], of the coordinates across the joint.
    """

    before: Array
    after: Array
    correlation: Array

    def features(self, spectra: Array, before: bool) -> tuple[Array, Array]:
        """Features [n, D] and bias [n] of strips before (left of, above) the joint, or after it.

        The log likelihood ratio of a pair is the scalar product of both features, plus both biases and a constant.
        """
        used = self.correlation > LEAST
        correlation = self.correlation[used]
        coordinates = _coordinates(spectra, self.before if before else self.after, used)
        features = coordinates * np.sqrt(correlation / (1 - correlation**2))
        return np.asarray(features, np.float32), np.asarray(-0.5 * features**2 @ correlation, np.float32)

    def coordinates(self, before: Array, after: Array) -> tuple[Array, Array, Array]:
        """The predictable canonical coordinates of n strips on either side [n, D], and their correlations [D]."""
        used = self.correlation > NOTABLE
        return (
            _coordinates(before, self.before, used),
            _coordinates(after, self.after, used),
            self.correlation[used],
        )

    @property
    def information(self) -> float:
        """How much either strip tells of the other, in nats: the mean log likelihood ratio of neighbours, were all
        as the model has it."""
        correlation = self.correlation[self.correlation > NOTABLE].astype(np.float64)
        return float(-0.5 * np.log1p(-(correlation**2)).sum())

    def mismatch(self, before: Array, after: Array) -> Array:
        """[n]: mean squared error of prediction across the joint, 1 where the model fits."""
        one, other, correlation = self.coordinates(before, after)
        return np.asarray(((other - correlation * one) ** 2 / (1 - correlation**2)).sum(1) / max(1, len(correlation)))

    def robust_ratio(self, before: Array, after: Array) -> Array:
        """[n]: log likelihood ratio of pairs of strips, of Student's t with `FREEDOM` degrees of freedom.

        Its scale is common to all coordinates of a joint; either strip predicts the other, and the mean is taken.
        """
        one, other, correlation = self.coordinates(before, after)
        size = len(correlation)

        def log_density(squares: Array) -> Array:
            return np.asarray(-0.5 * (FREEDOM + size) * np.log((FREEDOM + squares) / (FREEDOM + size)), np.float32)

        remaining = 1 - correlation**2
        forward = log_density(((other - correlation * one) ** 2 / remaining).sum(1)) - log_density((other**2).sum(1))
        backward = log_density(((one - correlation * other) ** 2 / remaining).sum(1)) - log_density((one**2).sum(1))
        return np.asarray((forward + backward) / 2 - np.log(remaining).sum() / 2, np.float32)


def _coordinates(spectra: Array, maps: Array, used: NDArray[np.bool_]) -> Array:
    """[n, D]: those canonical coordinates of strips [n, DEPTH, F] that are used [F, DEPTH].

    One dense product, in which most weights are 0, is far quicker than a small one for each wavenumber.
    """
    wavenumber, coordinate = np.nonzero(used)
    weights = np.zeros((*spectra.shape[1:], len(wavenumber)), np.float32)
    weights[:, wavenumber, np.arange(len(wavenumber))] = maps[wavenumber, coordinate].T
    flat = (spectra.shape[1] * spectra.shape[2], len(wavenumber))
    return np.asarray(spectra.reshape(len(spectra), flat[0]) @ weights.reshape(flat), np.float32)


def oriented(images: NDArray[np.uint8], direction: Direction) -> NDArray[np.uint8]:
    """[N, H, W] with the direction of the search along axis 1."""
    return images if direction == "below" else images.transpose(0, 2, 1)


def strips(images: NDArray[np.uint8], cut: int, before: bool) -> Strips:
    """The strips before row `cut` (above it, from it upwards) or after it, of `oriented` images [N, L, M].

    The border's own row has mean zero, and the first two rows unit mean square.
    """
    rows = images[:, cut - DEPTH : cut][:, ::-1] if before else images[:, cut : cut + DEPTH]
    values = rows.astype(np.float32)
    values -= values[:, :1].mean(axis=2, keepdims=True)
    size = np.sqrt(np.square(values[:, :2]).mean(axis=(1, 2)))
    values /= np.maximum(size, np.float32(QUIET))[:, None, None]
    length = images.shape[2]
    basis = dct(np.eye(length), axis=0, norm="ortho").astype(np.float32)  # [F, M]
    spectra = values.reshape(-1, length) @ basis.T
    return Strips(spectra.reshape(len(images), DEPTH, length), size < QUIET)


def covariance(before: Array, after: Array) -> tuple[NDArray[np.float64], int]:
    """Sum over n joints of the products of both strips' values [n, DEPTH, F], [F, 2 · DEPTH, 2 · DEPTH], and n."""
    both = np.ascontiguousarray(np.concatenate([before, after], axis=1).transpose(2, 0, 1))
    return np.matmul(both.transpose(0, 2, 1), both).astype(np.float64), both.shape[1]


def fit(moments: NDArray[np.float64]) -> Continuation:
    """The model with these second moments, [F, 2 · DEPTH, 2 · DEPTH], by canonical correlation analysis."""
    maps: list[tuple[NDArray[np.float64], ...]] = []
    for moment in moments:
        ridge = (RIDGE * np.trace(moment) / (2 * DEPTH) + 1e-9) * np.eye(DEPTH)
        one = np.linalg.inv(np.linalg.cholesky(moment[:DEPTH, :DEPTH] + ridge))
        other = np.linalg.inv(np.linalg.cholesky(moment[DEPTH:, DEPTH:] + ridge))
        left, correlation, right = np.linalg.svd(one @ moment[:DEPTH, DEPTH:] @ other.T)
        maps.append((left.T @ one, right @ other, np.clip(correlation, 0, 0.9999)))
    before, after, correlations = (np.stack(parts).astype(np.float32) for parts in zip(*maps, strict=True))
    return Continuation(before, after, correlations)


def inner_cuts(length: int) -> tuple[list[int], list[int]]:
    """Where tiles of a length are cut to learn from: up to three places near the beginning, and near the end."""
    reach = min(length // 4, length - 2 * DEPTH)
    near = sorted({DEPTH + reach * step // 2 for step in range(3)})
    near = [cut for cut in near if cut <= length - DEPTH]
    return near, [length - cut for cut in near]
