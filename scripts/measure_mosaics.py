#!/usr/bin/env python3
"""How many true neighbours matching finds on synthetic surveys, and how many false ones.

    .venv/bin/python scripts/measure_mosaics.py --tiles 5000 --seeds 0 1 2

A line for each seed and roughness (see calibrate_mosaics.py): precision and recall in both directions of the pairs that
the mosaics are made of (neighbours.csv), recall of neighbours by placement, false neighbours by placement, pairs
that assembly refused, and how many of these were false; processor time.
"""

import argparse
import time

import numpy as np
from calibrate_mosaics import ROUGHNESS, roughened, survey_of
from numpy.typing import NDArray

from semisalt.data.synthetic import deal
from semisalt.mosaics.assemble import assemble
from semisalt.mosaics.build import standing
from semisalt.mosaics.grid import Pairs, Side
from semisalt.mosaics.match import find

STEPS: dict[Side, tuple[int, int, int]] = {"right": (0, 0, 1), "below": (0, 1, 0)}


def line(images: NDArray[np.uint8], places: NDArray[np.int64]) -> str:
    """One survey's figures."""
    begin = time.process_time()
    matches = find(images)
    mosaics, refused = assemble(tuple(map(str, range(len(images)))), matches.pairs, matches.fit)
    spent = time.process_time() - begin
    pairs = standing(mosaics, matches.pairs)
    around = mosaics.neighbours()
    at = {tuple(place) for place in places.tolist() if place[0] >= 0}
    parts, false = [], 0
    for side, step in STEPS.items():
        total = sum((s, r + step[1], c + step[2]) in at for s, r, c in at)
        found = pairs.only(pairs.below == (side == "below"))
        true = adjoin(places, found, step)
        placed = np.flatnonzero(around[side] >= 0)
        right = (places[placed] + np.array(step) == places[around[side][placed]]).all(axis=1)
        false += int((~right).sum())
        parts.append(
            f"{side}: precision {true.mean():.5f} ({(~true).sum()} false), recall {true.sum() / total:.4f}, "
            f"placed {right.sum() / total:.4f}"
        )
    wrong = sum(
        int((~adjoin(places, refused.only(refused.below == (side == "below")), step)).sum())
        for side, step in STEPS.items()
    )
    return f"{'; '.join(parts)}; {false} falsely placed joints, {len(refused)} refused ({wrong} false), {spent:.1f} s"


def adjoin(places: NDArray[np.int64], pairs: Pairs, step: tuple[int, int, int]) -> NDArray[np.bool_]:
    """[P]: whether the pairs are neighbours."""
    return np.asarray((places[pairs.first] + np.array(step) == places[pairs.second]).all(axis=1))


def main() -> None:
    """Measure every seed at every roughness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=5000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    for seed in options.seeds:
        images, places = survey_of(deal(options.tiles, 0, seed, (101, 101)))
        for noise, stretch in ROUGHNESS:
            print(f"seed {seed}, noise {noise}, stretch {stretch}: ", end="")
            print(line(roughened(images, noise, stretch, seed), places), flush=True)


if __name__ == "__main__":
    main()
