#!/usr/bin/env python3
"""Fit and check the probabilities of mosaic pairs on synthetic surveys.

    .venv/bin/python scripts/calibrate_mosaics.py --tiles 3000 --seeds 11 12 13 --held-out 14

Each seed gives one survey as it is, and two that are roughened: noise of its own in every tile, and another gain,
offset and bend of the grey levels. A part of the tiles is taken away, so that many have no neighbour, as in a real
survey. Prints the constants for semisalt/mosaics/calibrate.py, then, for the held-out seeds and the constants that
stand there now, predicted and true shares.
"""

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semisalt.data.synthetic import Entry, deal
from semisalt.mosaics.calibrate import features, fit_logistic
from semisalt.mosaics.candidates import Candidates, square_support
from semisalt.mosaics.match import ROUNDS, distinct, settle, settled

Survey = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images [N, H, W]; section, row, column [N, 3], −1 for blank ones
ROUGHNESS = ((0.0, 0.0), (4.0, 0.15), (10.0, 0.3))  # noise in grey levels, and stretch


def survey_of(entries: Sequence[Entry]) -> Survey:
    """A synthetic survey's images and places."""
    blank = np.zeros_like(entries[0].mask)
    images = np.stack([blank if entry.cell is None else entry.cell.pixels for entry in entries])
    places = [(-1, -1, -1) if entry.cell is None else entry.cell.place for entry in entries]
    return images, np.array(places, np.int64)


def roughened(images: NDArray[np.uint8], noise: float, stretch: float, seed: int) -> NDArray[np.uint8]:
    """White noise (grey levels, rms), then a gain, an offset and a bend (gamma) of every tile's own.

    `stretch` 0.3: gains from 0.7 to 1, offsets wherever the range fits, gammas from 0.85 to 1.15.
    """
    rng = np.random.default_rng([seed, 7])
    rough = images + noise * rng.standard_normal(images.shape, np.float32)
    shape = (len(images), 1, 1)
    gain, place = 1 - stretch * rng.random(shape), rng.random(shape)
    gamma = 1 + stretch * (rng.random(shape) - 0.5)
    values = np.clip(rough / 255, 0, 1) ** gamma
    values = values * gain + (1 - gain) * place
    signal = images.max(axis=(1, 2), keepdims=True) > 0
    return np.asarray(np.rint(values * 255 * signal), np.uint8)


def thinned(survey: Survey, seed: int) -> Survey:
    """In half of the sections, four of five tiles taken away."""
    images, places = survey
    rng = np.random.default_rng([seed, 8])
    sparse = rng.random(places[:, 0].max() + 2) < 0.5
    kept = ~sparse[places[:, 0]] | (rng.random(len(places)) < 0.2)
    return images[kept], places[kept]


def true_pairs(places: NDArray[np.int64], found: Candidates, step: tuple[int, int]) -> NDArray[np.bool_]:
    """[P]: whether the candidates are neighbours."""
    wanted = places[found.first] + np.array([0, *step])
    return np.asarray((wanted == places[found.second]).all(axis=1) & (places[found.first, 0] >= 0))


def measured(seeds: Sequence[int], tiles: int) -> list[tuple[tuple[Candidates, Candidates], list[NDArray[np.bool_]]]]:
    """Candidates and their truth, right and below, of every survey."""
    surveys = []
    for seed in seeds:
        whole = thinned(survey_of(deal(tiles, 0, seed, (101, 101))), seed)
        for noise, stretch in ROUGHNESS:
            images, places = roughened(whole[0], noise, stretch, seed), whole[1]
            # Corners of what the constants that stand there now take for true.
            found = settled(images, distinct(images))[1]
            truth = [true_pairs(places, part, step) for part, step in zip(found, ((0, 1), (1, 0)), strict=True)]
            surveys.append((found, truth))
            print(f"seed {seed}, noise {noise}, stretch {stretch}: {[int(t.sum()) for t in truth]} true candidates")
    return surveys


def main() -> None:
    """Fit, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13])
    parser.add_argument("--held-out", type=int, nargs="*", default=[14])
    options = parser.parse_args()
    if options.seeds:
        surveys = measured(options.seeds, options.tiles)
        truth = np.concatenate([part for _, parts in surveys for part in parts])
        values = [[features(part) for part in found] for found, _ in surveys]
        weights = fit_logistic(np.concatenate([part for parts in values for part in parts]), truth)
        print("ALONE =", tuple(np.round(weights, 4).tolist()))
        for _ in range(ROUNDS):
            odds = [[(part @ weights).astype(np.float32) for part in parts] for parts in values]
            values = []
            for (found, _), given in zip(surveys, odds, strict=True):
                support = square_support(found[0], found[1], (given[0], given[1]))
                values.append([features(p, s) for p, s in zip(found, support, strict=True)])
            weights = fit_logistic(np.concatenate([part for parts in values for part in parts]), truth)
        print("IN_A_SQUARE =", tuple(np.round(weights, 4).tolist()))
    held_out = measured(options.held_out, options.tiles)
    odds_found = np.concatenate([part for found, _ in held_out for part in settle(found[0], found[1])])
    truth = np.concatenate([part for _, parts in held_out for part in parts])
    predicted = 1 / (1 + np.exp(-odds_found.astype(np.float64)))
    limits = [0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1.01]
    for low, high in itertools.pairwise(limits):
        which = (predicted >= low) & (predicted < high)
        if which.any():
            print(
                f"{low:5} to {min(high, 1):5}: {which.sum():7} pairs, predicted {predicted[which].mean():.4f}, "
                f"true {truth[which].mean():.4f}"
            )


if __name__ == "__main__":
    main()
