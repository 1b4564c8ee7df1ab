#!/usr/bin/env python3
"""How true a round's candidate labels are at each cut, on the labelled tiles that the label fraction set aside.

    .venv/bin/python scripts/label_cuts.py runs/rounds/round1 --fold 0

These tiles' labels are used for nothing else. Prints a Markdown table: the share of them that a cut keeps, and the mean
precision of the kept tiles' masks at 0.5; the mean precision of all at other thresholds; and of the tiles whose highest
p is under each of some values, which share of all they are and how many of them are empty indeed.
"""

import argparse
from pathlib import Path

import numpy as np

from semisalt.data.read import load_survey
from semisalt.metrics import precision
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.labels import verdicts_of
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("round", type=Path, help="a round of a label fraction under 1, not pooled")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--tiles-of", type=int, help="only tiles of this other fold; without it of all others")
    options = parser.parse_args()
    run = RunDirectory.open(options.round)
    folder = label_directory(run, options.fold)
    division = divide(load_survey(run.source()), run.config)
    others = [
        other
        for other in division.others(options.fold)
        if len(division.aside(other)) and options.tiles_of in (None, other)
    ]
    if not others:
        parser.error("no tiles were set aside there: a label fraction under 1 sets tiles of every other fold aside")
    order = np.concatenate([np.flatnonzero(~division.kept & (division.folds == other)) for other in others])
    tiles = division.tiles.subset(order)
    assert tiles.masks is not None  # noqa: S101  # the division holds labelled tiles
    source = RunDirectory.open(Path(folder.provenance().source))
    files = [source.unlabelled / f"fold{options.fold}-aside{other}.npy" for other in others]
    probabilities = np.concatenate([np.load(file) for file in files])
    rows = {row["id"]: row for row in verdicts_of(folder)}
    scores = precision(probabilities > 127, tiles.masks)
    print("| cut | kept | mean precision |\n|---|---|---|")
    for threshold in (0.3, 0.32, 0.4, 0.5, 0.6, 0.7):
        mean = precision(probabilities > threshold * 255, tiles.masks).mean()
        print(f"| none, p > {threshold} | 1.00 | {mean:.3f} |")
    for measure, cuts in {"decided": (0.7, 0.8, 0.9, 0.95), "agreement": (0.5, 0.7, 0.8, 0.9)}.items():
        values = np.array([float(rows[tile][measure]) for tile in tiles.ids])
        for cut in cuts:
            kept = values >= cut
            print(f"| {measure} ≥ {cut} | {kept.mean():.2f} | {scores[kept].mean():.3f} |")
    empty = ~(probabilities > 127).any(axis=(1, 2))
    print(f"\npredicted empty: {scores[empty].mean():.3f} right, with salt: {scores[~empty].mean():.3f}")
    print(f"without salt by the labels: {(~tiles.masks.any(axis=(1, 2))).mean():.2f}")
    highest = probabilities.max(axis=(1, 2))
    for limit in (0.5, 0.4, 0.3, 0.2, 0.1):
        faint = highest <= limit * 255
        print(f"highest p under {limit}: {faint.mean():.2f} of all, {scores[faint].mean():.2f} of them empty indeed")


if __name__ == "__main__":
    main()
