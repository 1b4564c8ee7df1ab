#!/usr/bin/env python3
"""Which way of learning from unlabelled tiles pays on your tiles: every method, the same labels, as many steps each.

    .venv/bin/python scripts/methods.py --data data/tgs --label-fraction 0.05 --folds 1,2 --out runs/twentieth

Trains the supervised recipe, a round of pseudo-labels by it, the mean teacher, a round of pseudo-labels by that, and
deep co-training (by far the longest: leave it out by --without cotrain), 1,040 optimiser steps each; a round's come on
top of those of the run that labels for it. The same command again goes on where it was killed; other options, folds
among them, need another --out. Then `semisalt compare` prints scores on the same held-out tiles and paired differences,
at 0.5 and cross-fitted.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from semisalt.run import RunDirectory

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# 26 steps an epoch, as the recipes of both other methods have: the number of labels does not change the training.
STEPS = ["training.epochs=40", "training.epoch_steps=26", "loss.switch_epoch=16"]
ROUND = ["--rounds", "1", "--set=pseudo.start=scratch", "--set=pseudo.peak=null"]
# Name: command, recipe, what else it is given, the finished run that labels for it, where its scores lie.
METHODS: dict[str, tuple[str, str, list[str], str | None, str]] = {
    "supervised": ("baseline", "pseudo_cpu.yaml", [], None, ""),
    "pseudo": ("pseudo", "pseudo_cpu.yaml", ROUND, "supervised", "round1"),
    "teacher": ("teacher", "teacher.yaml", [], None, ""),
    "teacher-pseudo": ("pseudo", "pseudo_cpu.yaml", ROUND, "teacher", "round1"),
    "cotrain": ("cotrain", "cotrain.yaml", [], None, ""),
}


def semisalt(*words: str) -> None:
    """Run a command; its failure ends the script, with its own message."""
    code = subprocess.run([sys.executable, "-m", "semisalt", *words], check=False).returncode
    if code:
        sys.exit(code)


def train(name: str, out: Path, shared: list[str]) -> None:
    """Train one method to its end, or go on with it; `semisalt` refuses to go on by other options."""
    command, recipe, more, source, rounds = METHODS[name]
    words = [command, "--config", str(CONFIGS / recipe), "--run", str(out / name), *more, *shared]
    if source:
        words += ["--from", str(out / source)]
    run = RunDirectory(out / name / rounds)
    if (run.path / "config.yaml").exists() if source else run.has_checkpoint():
        words.append("--resume")
    semisalt(*words)


def main() -> None:
    """Train, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder or zip of tiles")
    parser.add_argument("--label-fraction", default="0.05", help="share of the labels that training may use")
    parser.add_argument("--folds", default="0,1", help="which folds; their held-out tiles are compared on")
    parser.add_argument("--unlabelled-limit", help="work with so many unlabelled tiles only")
    parser.add_argument("--without", nargs="+", action="extend", default=[], choices=METHODS, metavar="METHOD")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all methods; repeatable")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    options = parser.parse_args()
    names = [name for name in METHODS if name not in options.without]
    if len(names) < 2:
        parser.error("nothing to compare: leave out fewer")
    for name in names:
        source = METHODS[name][3]
        if source and source not in names:
            parser.error(f"{name} needs {source}: leave both out, or neither")
    shared = ["--data", options.data, "--label-fraction", options.label_fraction, "--folds", options.folds]
    shared += ["--unlabelled-limit", options.unlabelled_limit] if options.unlabelled_limit else []
    shared += [f"--set={setting}" for setting in [*STEPS, *options.set]]
    out = options.out.resolve()
    for name in names:
        train(name, out, shared)
    for place in ("0.5", "cross-fitted"):
        words = [f"{name}={out / name / METHODS[name][4]}" for name in names]
        semisalt("compare", *words, "--data", options.data, "--folds", options.folds, "--at", place)


if __name__ == "__main__":
    main()
