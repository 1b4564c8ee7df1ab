"""How fast this machine trains and predicts with a configuration, and how far that is from what it could do."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from semisalt.bench.arithmetic import matmul, matmul_size, step_flops
from semisalt.bench.methods import METHODS as METHODS
from semisalt.bench.methods import measure_methods
from semisalt.bench.plain import plain_step
from semisalt.bench.report import BenchReport, Subject, summarise
from semisalt.bench.report import bench_table as bench_table
from semisalt.bench.timing import Action, Seconds, interleaved
from semisalt.bench.workload import (
    loader,
    loader_batches,
    loop_bare_step,
    loop_step,
    lovasz,
    make_trainer,
    prediction,
    random_survey,
)
from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.precision import Precision
from semisalt.provenance import device_name
from semisalt.training.fit import Trainer
from semisalt.training.settle import Settled, settle

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def bench(
    config: Config,
    *,
    device: torch.device,
    seconds: float,
    announce: Callable[[str], None],
    methods: Sequence[str] = (),
) -> BenchReport:
    """Measure a configuration on random tiles of 101×101; neither data nor weights are needed.

    Everything is measured in turn, round after round, until `seconds` are over. A slow network takes longer, since
    there are three rounds at least. Precision `auto` is settled by the usual probe beforehand. The step is the
    supervised one, whatever the recipe's method.

    Args:
        config: the recipe; its encoder gets random weights.
        device: where to measure.
        seconds: how long, warm-up included.
        announce: told what is going on, a line at a time.
        methods: those of METHODS whose cost is measured, too, in half of the time.

    Raises:
        UserError: the configuration's network cannot be built.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    survey = random_survey(config)
    settled = settle(config, survey, device)
    for reason in settled.reasons:
        announce(reason)
    share = seconds / 2 if methods else seconds
    with TemporaryDirectory() as folder:
        subject, times = _measure_loop(settled, survey, device, Path(folder), load, share, announce)
        # Afterwards, when the loop's own tiles and workers are gone: a small machine has no room for both.
        costs = None
        if methods:
            costs = measure_methods(settled.config, methods, survey, device, Path(folder), share, announce)
    return summarise(subject, times, costs)


def _measure_loop(
    settled: Settled,
    survey: Survey,
    device: torch.device,
    folder: Path,
    load: float | None,
    seconds: float,
    announce: Callable[[str], None],
) -> tuple[Subject, dict[str, Seconds]]:
    config = settled.config.model_copy(update={"method": "supervised"})
    sides: dict[str, int] = {precision: matmul_size(precision, device) for precision in _PRECISIONS}
    trainer = make_trainer(config, survey, device, folder)
    bare, shape = loop_bare_step(trainer)
    predict, predicted = prediction(trainer, bare)
    loss, loss_name = lovasz(trainer)
    workers = list(dict.fromkeys((config.data.workers, 0)))
    network = trainer.method.predictor()
    subject = Subject(
        device=device_name(device),
        threads=torch.get_num_threads(),
        load=load,
        encoder=config.model.encoder,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input=shape,
        precision=trainer.predictor.precision,
        reasons=settled.reasons,
        flops=step_flops(network, shape),
        lovasz=loss_name,
        mirrored=config.inference.flip,
        predicted=predicted,
        loaded={count: loader_batches(count) * shape[0] for count in workers},
        sides=sides,
    )
    actions = {
        "step": loop_step(trainer),
        "bare": bare,
        "predict": predict,
        "lovasz": loss,
        **{f"loader {count}": loader(trainer, count) for count in workers},
        **{f"matmul {precision}": matmul(sides[precision], precision, device) for precision in _PRECISIONS},
    }
    return subject, _times(trainer, shape, actions, seconds, announce)


def _times(
    trainer: Trainer,
    shape: tuple[int, ...],
    actions: dict[str, Action],
    seconds: float,
    announce: Callable[[str], None],
) -> dict[str, Seconds]:
    """All actions in turn with a plain script's step, then on a CPU the loop's in turn with that of a thrifty one."""
    config, channels, device = trainer.config, trainer.predictor.channels, trainer.predictor.device
    with plain_step(config, channels, shape, device, keep=False) as plain:
        times = interleaved({**actions, "plain": plain}, seconds=seconds, device=device, announce=announce)
    if device.type == "cpu":
        # By itself: two plain scripts at a time would not fit into the memory of a small machine.
        with plain_step(config, channels, shape, device, keep=True) as kept:
            pair = {"step beside kept": actions["step"], "kept": kept}
            times |= interleaved(pair, seconds=seconds / 3, device=device, announce=announce)
    return times
