#!/usr/bin/env python3
"""How many true neighbours matching finds on synthetic surveys, and how many false ones.

    .venv/bin/python scripts/measure_mosaics.py --tiles 5000 --seeds 0 1 2

A line for each seed and roughness (see calibrate_mosaics.py): precision and recall in both directions of the matched
pairs that assembly accepted, and of all tiles that lie side by side in the mosaics (neighbours.csv); the pairs that
assembly refused, and how many of these were false; processor time.
"""

import argparse
import time

import numpy as np
from calibrate_mosaics import ROUGHNESS, roughened, survey_of
from numpy.typing import NDArray

from semisalt.data.synthetic import deal
from semisalt.mosaics.assemble import assemble
from semisalt.mosaics.build import side_by_side
from semisalt.mosaics.grid import Pairs, Side
from semisalt.mosaics.match import find

STEPS: dict[Side, tuple[int, int, int]] = {"right": (0, 0, 1), "below": (0, 1, 0)}


def line(images: NDArray[np.uint8], places: NDArray[np.int64]) -> str:
    """One survey's figures."""
    begin = time.process_time()
    matches = find(images)
    mosaics, refused = assemble(tuple(map(str, range(len(images)))), matches.pairs, matches.fit)
    spent = time.process_time() - begin
    beside = side_by_side(mosaics, matches)
    matched = matched_of(beside, matches.pairs)
    at = {tuple(place) for place in places.tolist() if place[0] >= 0}
    parts = []
    for side, step in STEPS.items():
        total = sum((s, r + step[1], c + step[2]) in at for s, r, c in at)
        told = []
        for name, pairs in (("matched", matched), ("side by side", beside)):
            true = adjoin(places, pairs.only(pairs.below == (side == "below")), step)
            told.append(f"{name} {true.mean():.5f}, {true.sum() / total:.4f} ({(~true).sum()} false)")
        parts.append(f"{side}: {', '.join(told)}")
    wrong = sum(
        int((~adjoin(places, refused.only(refused.below == (side == "below")), step)).sum())
        for side, step in STEPS.items()
    )
    return f"{'; '.join(parts)}; {len(refused)} refused ({wrong} false), {spent:.1f} s"


def matched_of(beside: Pairs, pairs: Pairs) -> Pairs:
    """Those pairs of tiles side by side that were matched."""
    known = set(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.below.tolist(), strict=True))
    ends = zip(beside.first.tolist(), beside.second.tolist(), beside.below.tolist(), strict=True)
    return beside.only(np.array([end in known for end in ends], np.bool_))


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
