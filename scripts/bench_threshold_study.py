#!/usr/bin/env python3
"""Trials a second of a study of level threshold: 4,000 tiles of 101×101, by default three voters, plain and mirrored.

The maps are made up, and like those of a real fold (`pseudo_cpu.yaml` on a tenth of TGS's labels, three snapshots,
plain and mirrored; in brackets) in what a trial's time depends on: .35 of the tiles empty whatever is asked for (.31),
.074 of all pixels open (.080), .59 of the tiles with salt at 0.5 (.55), 1.4 islands on each of these (1.2), islands
under 200 px on .15 of all (.09), holes under 100 px on .11 (.11), .033 and .041 basins of salt and of background to an
open pixel (.032, .042): that is, how far the voters agree on which of two neighbours is likelier.
A trial is all of it: the sampler's choice, the scores, the lines in the database.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from semisalt.inference.evaluate import load_oof
from semisalt.inference.outputs import own_survey
from semisalt.inference.threshold import Operating
from semisalt.memory import keep_freed_memory
from semisalt.run import RunDirectory
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.in_memory import search_in_memory
from semisalt.studies.request import StudyRequest, write_request
from semisalt.studies.storage import open_storage
from semisalt.studies.views import FoldViews, predicted_views
from semisalt.studies.votes import Votes, Voting

SPACE = {
    "threshold": {"kind": "float", "low": 0.25, "high": 0.75},
    "min_salt": {"kind": "int", "low": 0, "high": 200},
    "min_hole": {"kind": "int", "low": 0, "high": 100},
    "snapshots.keep": {"kind": "int", "low": 1, "high": 3},
    "snapshots.decay": {"kind": "float", "low": 0.5, "high": 1.0},
    "inference.flip": {"kind": "categorical", "choices": [True, False]},
}


Maps = dict[tuple[bool, int], NDArray[np.uint8]]


def smooth(generator: np.random.Generator, shape: tuple[int, int, int], width: float) -> NDArray[np.float32]:
    """Noise of unit variance that varies over `width` pixels."""
    noise: NDArray[np.float32] = ndimage.gaussian_filter(
        generator.standard_normal(shape, np.float32), (0, width, width)
    )
    return noise / noise.std()


def made_up(tiles: int, voters: int) -> tuple[Maps, NDArray[np.uint8]]:
    """Maps by (mirrored, voter) and the truth."""
    generator = np.random.default_rng(0)
    shape = (tiles, 101, 101)
    level = generator.normal(-0.6, 1.3, (tiles, 1, 1))  # of each tile: most are nearly empty or nearly full
    logits = 10 * (smooth(generator, shape, 20) + 2 * level) + smooth(generator, shape, 3.5)
    maps = {
        (flip, voter): (255 * expit(logits + 1.5 * smooth(generator, shape, 11))).astype(np.uint8)
        for flip in (False, True)
        for voter in range(voters)
    }
    return maps, (logits > 0).astype(np.uint8)


def repeated(run: RunDirectory, tiles: int, voters: int) -> tuple[Maps, NDArray[np.uint8]]:
    """A run's out-of-fold tiles over and over, heard by each fold's newest snapshots."""
    survey = own_survey(run, None)
    views = predicted_views(run, survey.labelled, torch.device("cpu"), print, snapshots=True, flips=(False, True))
    _, own, _ = load_oof(run, survey.labelled)
    at = np.arange(tiles) % len(own)
    maps = {
        (flip, voter): np.concatenate([view.maps[flip, view.voters - voters + voter] for view in views])[at]
        for flip in (False, True)
        for voter in range(voters)
    }
    return maps, own.masks[at]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="run", type=Path, help="a run whose maps are repeated instead")
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3, help="studies of so many trials, one after the other")
    asked = parser.parse_args()
    keep_freed_memory()  # as every command does
    maps, truth = (
        repeated(RunDirectory.open(asked.run), asked.tiles, asked.voters)
        if asked.run
        else made_up(asked.tiles, asked.voters)
    )
    space = {**SPACE, "snapshots.keep": {"kind": "int", "low": 1, "high": asked.voters}}
    request = StudyRequest.model_validate(
        {"name": "bench", "level": "threshold", "space": space, "recipe": {}, "data": {}, "sampler": {"startup": 40}}
    )
    began = time.monotonic()
    votes = Votes(
        [FoldViews(slice(0, asked.tiles), maps, None)], truth, np.ones(asked.tiles, bool), (0.25, 0.75), 200, 100
    )
    print(f"{asked.tiles} tiles, {asked.voters} voters, made ready in {time.monotonic() - began:.1f} s")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def score(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        voting = Voting(chosen["snapshots.keep"], chosen["snapshots.decay"], chosen["inference.flip"])
        operating = Operating(chosen["threshold"], chosen["min_salt"], chosen["min_hole"])
        return float(votes.scores(voting, operating).mean()), {}

    rates = []
    for _ in range(asked.repeats):
        with tempfile.TemporaryDirectory() as folder:
            directory = StudyDirectory(Path(folder))
            write_request(directory.path / "study.yaml", request)
            stored = optuna.create_study(storage=open_storage(directory), direction="maximize")
            began, used = time.monotonic(), time.process_time()
            search_in_memory(request, stored, asked.trials, None, score)
            wall, used = time.monotonic() - began, time.process_time() - used
        rates.append(asked.trials / wall)
        print(f"{asked.trials} trials: {rates[-1]:.1f} a second; {asked.trials / used:.1f} a second of processor")
    print(f"median: {median(rates):.1f} trials a second")


if __name__ == "__main__":
    main()
