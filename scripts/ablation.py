#!/usr/bin/env python3
"""What each part of the CPU recipe is worth: the recipe without it, paired over the same validation tiles.

    .venv/bin/python scripts/ablation.py --data data/tgs --epochs 8 --out runs/ablation

Each variant is a run of `semisalt baseline` on fold 0; a finished one is not trained again, a begun one goes on.
Prints a Markdown table of mean precision at 0.5 (last weights, mirrored views) and of paired differences with 95 %
intervals. What snapshots are worth stands in each run's own fold0/tiles.csv and in `semisalt show RUN`.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semisalt.metrics import bootstrap, paired_bootstrap

VARIANTS: dict[str, list[str]] = {
    "recipe": [],
    "without scSE": ["model.scse_decoder=false"],
    "without hypercolumn": ["model.hypercolumn=false"],
    "BCE only": ["loss.finish={bce: 1.0}"],
    "elu + 1 for the hinge": ["loss.finish={bce: 0.1, lovasz_elu_symmetric: 0.9}"],
    "hinge for the symmetric hinge": ["loss.finish={bce: 0.1, lovasz_hinge: 0.9}"],
}


def train(folder: Path, data: Path, config: Path, epochs: int, overrides: list[str]) -> None:
    """Run or resume one variant."""
    if (folder / "fold0" / "result.json").exists():
        return
    settings = [f"training.epochs={epochs}", f"loss.switch_epoch={round(0.4 * epochs)}", *overrides]
    command = [sys.executable, "-m", "semisalt", "baseline", "--config", str(config), "--data", str(data)]
    command += ["--run", str(folder.resolve()), "--folds", "0", *(f"--set={setting}" for setting in settings)]
    if (folder / "config.yaml").exists():
        command.append("--resume")
    subprocess.run(command, check=True)


def scores(folder: Path, way: str) -> NDArray[np.float64]:
    """Score at 0.5 of every validation tile, by one way of combining snapshots."""
    with (folder / "fold0" / "tiles.csv").open(encoding="utf-8", newline="") as handle:
        return np.array([float(row[way]) for row in csv.DictReader(handle)])


def main() -> None:
    """Train all variants, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/cpu.yaml"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    options = parser.parse_args()
    folders = {name: options.out / name.replace(" ", "-").replace("+", "plus") for name in VARIANTS}
    for name, folder in folders.items():
        train(folder, options.data, options.config, options.epochs, VARIANTS[name])
    # The last weights: in a short run the averaged snapshots reach back to epochs of a high learning rate.
    whole = scores(folders["recipe"], "last")
    print("| variant | mean precision at 0.5 | minus the recipe, paired |\n|---|---|---|")
    print(f"| recipe | {bootstrap(whole)} | |")
    for name, folder in list(folders.items())[1:]:
        values = scores(folder, "last")
        print(f"| {name} | {bootstrap(values)} | {paired_bootstrap(values, whole)} |")


if __name__ == "__main__":
    main()
