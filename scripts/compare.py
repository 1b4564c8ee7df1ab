#!/usr/bin/env python3
"""Two runs on the same out-of-fold tiles: mean precision at 0.5 of each, and the paired difference.

    .venv/bin/python scripts/compare.py runs/rounds-2/round1 runs/control --folds 2

With 95 % intervals over tiles. Both runs must have divided the same data alike.
"""

import argparse
from pathlib import Path

from semisalt.data.read import load_survey
from semisalt.metrics import bootstrap, paired_bootstrap
from semisalt.pseudo.figures import tile_scores
from semisalt.run import RunDirectory, read_csv


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", help="without it those that both have finished")
    options = parser.parse_args()
    runs = [RunDirectory.open(path) for path in (options.first, options.second)]
    if read_csv(runs[0].path / "folds.csv") != read_csv(runs[1].path / "folds.csv"):
        raise SystemExit("the runs divided their tiles differently: their scores cannot be paired")
    folds = tuple(options.folds or sorted(set(runs[0].finished_folds()) & set(runs[1].finished_folds())))
    survey = load_survey(runs[0].source())
    scores = [tile_scores(run, survey, folds) for run in runs]
    for run, values in zip(runs, scores, strict=True):
        print(f"{run.path}: {bootstrap(values)}, {len(values)} tiles{' (INFLATED)' if run.inflated else ''}")
    print(f"the first minus the second, paired: {paired_bootstrap(*scores).signed}")


if __name__ == "__main__":
    main()
