#!/usr/bin/env python3
"""The table of pseudo-label rounds whose folds were run apart, on several cores or machines.

    .venv/bin/semisalt pseudo --from base --folds 0 --run runs/rounds-0 …   # on one core
    .venv/bin/semisalt pseudo --from base --folds 1 --run runs/rounds-1 …   # on the other
    .venv/bin/python scripts/rounds.py runs/rounds-0 runs/rounds-1

Folds do not depend on each other, so that this is what one run over all of them would give. Prints a Markdown table of
mean precision at 0.5 over all the folds' tiles, with 95 % intervals, paired where it says minus.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semisalt.data.read import load_survey
from semisalt.inference.evaluate import tile_scores
from semisalt.metrics import bootstrap, paired_bootstrap
from semisalt.run import RunDirectory, read_json


def main() -> None:
    """Gather, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=Path, nargs="+", help="directories of `semisalt pseudo`, other folds each")
    paths = parser.parse_args().rounds
    notes = [read_json(path / "rounds.json") for path in paths]
    folds = [fold for note in notes for fold in note["folds"]]
    if len(set(folds)) < len(folds):
        raise SystemExit(f"the folds {folds} overlap: each may be counted once")
    survey = load_survey(RunDirectory.open(Path(notes[0]["rounds"][-1]["run"])).source())
    before: list[NDArray[np.float64]] = []
    print("| round | taken: empty, salt | right where known | score | minus round 0 | minus the one before | min |")
    print("|---|---|---|---|---|---|---|")
    for number in range(min(len(note["rounds"]) for note in notes)):
        lines = [note["rounds"][number] for note in notes]
        parts = [
            tile_scores(dict.fromkeys(note["folds"], RunDirectory.open(Path(line["run"]))), survey)
            for line, note in zip(lines, notes, strict=True)
        ]
        scores = np.concatenate(parts)
        taken = [line["taken"] for line in lines if line["taken"]]
        counts = f"{sum(t['empty'] for t in taken):,}, {sum(t['salt'] for t in taken):,}" if taken else ""
        known = sum(t["known"] for t in taken)
        right = f"{sum(t['known'] * t['truth'] for t in taken) / known:.3f}" if known else ""
        gains = [str(paired_bootstrap(scores, other)) for other in (before[0], before[-1])] if before else ["", ""]
        minutes = sum(line["seconds"] for line in lines) / 60
        mark = " (inflated)" if any(line["inflated"] for line in lines) else ""
        print(
            f"| {number} | {counts} | {right} | {bootstrap(scores)}{mark} | {gains[0]} | {gains[1]} | {minutes:.0f} |"
        )
        before.append(scores)


if __name__ == "__main__":
    main()
