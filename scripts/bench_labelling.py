#!/usr/bin/env python3
"""What labelling a fold for a round costs, against the bare forward passes of the same network on as many tiles.

    .venv/bin/python scripts/bench_labelling.py runs/rounds/round1 --fold 0

Both sides run in turn, from the weights that labelled the round. Labelling is all that a round does before it trains:
predict, measure, select, write. The bare passes are the network's alone, as many as the weights that vote and the
mirrored views ask for, over input that is ready in memory. Nothing in the run directories is changed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from semisalt.bench.timing import Spread, spread
from semisalt.data.channels import Channels
from semisalt.data.read import load_survey
from semisalt.inference.build import build_network, predictor_of
from semisalt.inference.ensemble import voters_of
from semisalt.inference.outputs import bare_tiles
from semisalt.inference.weights import load_weights
from semisalt.memory import keep_freed_memory
from semisalt.precision import Precision, autocast
from semisalt.pseudo.labelling import Task, label_fold
from semisalt.pseudo.labels import LabelDirectory
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide

# Batches of prepared input, taken in turn: those of all tiles would fill the memory.
_READY = 8
_CHALLENGE = 18_800 * 5


def bare_passes(task: Task, device: torch.device) -> Callable[[], None]:
    """The forward passes of the task's first voter on as many tiles as the task labels, blank ones left out."""
    run = task.source
    channels = Channels(**run.channels)
    predictor = predictor_of(run.config, channels, device)
    network = build_network(run.config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last).eval()
    voters = voters_of(run, task.fold)
    load_weights(voters[0][0], network)
    seen = task.candidates.subset(~task.candidates.blank)
    first = seen.subset(np.arange(min(len(seen), _READY * predictor.batch)))
    images = torch.split(torch.from_numpy(first.images).to(device), predictor.batch)
    depths = torch.split(torch.from_numpy(first.depths), predictor.batch) if first.depths is not None else None
    ready = [channels(part, depths[at].to(device) if depths else None) for at, part in enumerate(images)]
    passes = len(voters) * (2 if predictor.flip else 1)
    return lambda: _pass(network, predictor.precision, ready, len(seen), predictor.batch, passes)


@torch.inference_mode()
def _pass(
    network: nn.Module, precision: Precision, ready: list[torch.Tensor], tiles: int, batch: int, passes: int
) -> None:
    for at, start in enumerate(range(0, tiles, batch)):
        x = ready[at % len(ready)][: tiles - start]
        for _ in range(passes):
            with autocast(x.device, precision):
                out = network(x)
    out.sum().item()  # a GPU's queue is drained


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("round", type=Path, help="a round, not pooled")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--tiles", type=int, default=1000, help="of the survey's unlabelled ones")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    run = RunDirectory.open(options.round)
    source = run.builds_on
    if source is None:
        raise SystemExit(f"{run.path} is no round, or the run that labelled for it is gone")
    survey = load_survey(run.source())
    bare = bare_tiles(survey, run.config)
    bare = bare.subset(np.arange(min(options.tiles, len(bare))))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    times, size = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.turns):
            place = Path(folder) / str(turn)
            task = Task(source, options.fold, (options.fold,), bare, divide(survey, run.config), place / "maps")
            labels = LabelDirectory(place / "labels")
            passes = bare_passes(task, device)
            passes()  # warm
            labelling = timed(lambda: label_fold(task, run.config.pseudo, labels, device, print))  # noqa: B023  # called here
            times.append([*labelling, *timed(passes)])
            size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
            print("labelling {:.1f} s ({:.1f} of processor time), bare {:.1f} s ({:.1f})".format(*times[-1]))
    clock, processor, bare_clock, bare_processor = np.array(times).T
    count = len(task.candidates)

    def ratio(values: Spread) -> str:
        return f"{values.median:.3f} × ({values.low:.3f} … {values.high:.3f})"

    print(f"\n{count} tiles, {torch.get_num_threads()} threads, {device}; median (quartiles) of {options.turns} turns")
    print(f"labelling over the bare passes: {ratio(spread(clock / bare_clock))} on the clock")
    print(f"                                {ratio(spread(processor / bare_processor))} of processor time")
    whole = size / count * _CHALLENGE / 1e9
    print(f"kept: {size / count:,.0f} bytes a tile, {whole:.2f} GB for 18,800 tiles × 5 folds")


if __name__ == "__main__":
    main()
