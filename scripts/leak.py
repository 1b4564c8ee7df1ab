#!/usr/bin/env python3
"""How much an out-of-fold score flatters itself when pseudo-labels are pooled over the folds.

    .venv/bin/semisalt pseudo --from BASE --run runs/own --rounds 1 --no-early-stop …
    .venv/bin/semisalt pseudo --from BASE --run runs/pooled --rounds 1 --no-early-stop --pooled …
    .venv/bin/python scripts/leak.py runs/own/round1 runs/pooled/round1

Both rounds come from one baseline of a label fraction under 1. Of each fold's validation tiles some keep their labels:
the other folds learn from these, and with --pooled hand what they learned to the fold itself. The rest of the
validation tiles are kept out of everything. What pooling gains on the former beyond its gain on the latter is leak.
Folds that were run in several directories are given with commas, as to `semisalt compare`.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semisalt.data.read import load_survey
from semisalt.inference.evaluate import load_oof
from semisalt.metrics import bootstrap, paired_bootstrap, precision
from semisalt.run import RunDirectory, read_csv

_DRAWS = 10_000


def scores(runs: list[RunDirectory]) -> dict[str, float]:
    """Precision at 0.5 of every out-of-fold tile, by id."""
    found: dict[str, float] = {}
    for run in runs:
        probabilities, tiles, _ = load_oof(run, load_survey(run.source()).labelled)
        assert tiles.masks is not None  # noqa: S101  # out-of-fold tiles are labelled
        found |= zip(tiles.ids, precision(probabilities > 127, tiles.masks).tolist(), strict=True)
    return found


def runs_of(text: str) -> list[RunDirectory]:
    """Run directories from RUN or RUN,RUN."""
    return [RunDirectory.open(Path(name)) for name in text.split(",")]


def difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    """mean(a) − mean(b) of two groups of tiles, with its 95 % percentile interval over resampled tiles."""
    generator = np.random.default_rng(0)
    draws = [generator.choice(values, (_DRAWS, len(values))).mean(axis=1) for values in (a, b)]
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    return f"{a.mean() - b.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("own", type=runs_of, help="the round whose folds were labelled by their own models")
    parser.add_argument("pooled", type=runs_of, help="the same round with --pooled")
    options = parser.parse_args()
    own, pooled = options.own, options.pooled
    if any(run.inflated for run in own) or not all(run.inflated for run in pooled):
        raise SystemExit("give the round of the folds' own labels first, the pooled one second")
    kept = {row["id"] for row in read_csv(own[0].path / "folds.csv") if row["label_used"] == "1"}
    one, other = scores(own), scores(pooled)
    ids = sorted(one.keys() & other.keys())
    groups = {
        "the pooled models learned from": [tile for tile in ids if tile in kept],
        "kept out of everything": [tile for tile in ids if tile not in kept],
    }
    gains = {}
    print(
        "| validation tiles | number | own labels | pooled labels | pooled minus own, paired |\n|---|---|---|---|---|"
    )
    for name, tiles in groups.items():
        a, b = (np.array([score[tile] for tile in tiles]) for score in (other, one))
        gains[name] = a - b
        print(f"| {name} | {len(tiles)} | {bootstrap(b)} | {bootstrap(a)} | {paired_bootstrap(a, b)} |")
    print(f"\nleak on the tiles learned from, gain beyond gain: {difference(*gains.values())}")


if __name__ == "__main__":
    main()
