#!/usr/bin/env python3
"""Trials a second of a study of level threshold: 4,000 tiles of 101×101, by default three voters, plain and mirrored.

The maps are made up, and like those of a real fold (the CPU recipe's first, on all TGS labels, three snapshots, plain
and mirrored; in brackets) in what a trial's time depends on: .22 of the tiles empty whatever is asked for (.28), .10 of
all pixels open (.10), islands under 200 px on .13 of the tiles with salt (.10), holes under 100 px on .09 (.09).
A trial is all of it: the sampler's choice, the scores, the lines in the database.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from semisalt.inference.threshold import Operating
from semisalt.studies.choosing import sampler_of
from semisalt.studies.request import StudyRequest
from semisalt.studies.space import suggest
from semisalt.studies.views import FoldViews
from semisalt.studies.votes import Votes, Voting

SPACE = {
    "threshold": {"kind": "float", "low": 0.25, "high": 0.75},
    "min_salt": {"kind": "int", "low": 0, "high": 200},
    "min_hole": {"kind": "int", "low": 0, "high": 100},
    "snapshots.keep": {"kind": "int", "low": 1, "high": 3},
    "snapshots.decay": {"kind": "float", "low": 0.5, "high": 1.0},
    "inference.flip": {"kind": "categorical", "choices": [True, False]},
}


def smooth(generator: np.random.Generator, shape: tuple[int, int, int], width: float) -> NDArray[np.float32]:
    """Noise of unit variance that varies over `width` pixels."""
    noise: NDArray[np.float32] = ndimage.gaussian_filter(
        generator.standard_normal(shape, np.float32), (0, width, width)
    )
    return noise / noise.std()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--trials", type=int, default=300)
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    shape = (asked.tiles, 101, 101)
    shapes = smooth(generator, shape, 20)
    level = generator.normal(-0.25, 1.2, (asked.tiles, 1, 1))  # of each tile: most are nearly empty or nearly full
    logits = 10 * (shapes + 2 * level)
    truth = (logits > 0).astype(np.uint8)
    maps = {
        (flip, voter): (255 * expit(logits + 1.6 * smooth(generator, shape, 5))).astype(np.uint8)
        for flip in (False, True)
        for voter in range(asked.voters)
    }
    space = {**SPACE, "snapshots.keep": {"kind": "int", "low": 1, "high": asked.voters}}
    request = StudyRequest.model_validate(
        {"name": "bench", "level": "threshold", "space": space, "recipe": {}, "data": {}, "sampler": {"startup": 40}}
    )
    began = time.monotonic()
    votes = Votes([FoldViews(slice(0, asked.tiles), maps, None)], truth, np.ones(asked.tiles, bool), (0.25, 0.75))
    print(f"{asked.tiles} tiles, {asked.voters} voters, made ready in {time.monotonic() - began:.1f} s")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        stored = optuna.create_study(storage=f"sqlite:///{Path(folder) / 'study.db'}", direction="maximize")
        memory = optuna.create_study(direction="maximize")
        began, used = time.monotonic(), time.process_time()
        for number in range(asked.trials):
            memory.sampler = sampler_of(request, number)
            trial = memory.ask()
            chosen = suggest(trial, request.space, {})
            voting = Voting(chosen["snapshots.keep"], chosen["snapshots.decay"], chosen["inference.flip"])
            operating = Operating(chosen["threshold"], chosen["min_salt"], chosen["min_hole"])
            stored.add_trial(memory.tell(trial, float(votes.scores(voting, operating).mean())))
        wall, used = time.monotonic() - began, time.process_time() - used
    print(f"{asked.trials} trials: {asked.trials / wall:.1f} a second; {asked.trials / used:.1f} a second of processor")


if __name__ == "__main__":
    main()
