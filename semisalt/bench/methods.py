"""What learning from unlabelled tiles costs: each method's step beside a supervised one on as many tiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from semisalt.bench.timing import Seconds, Spread, interleaved, spread
from semisalt.bench.workload import loop_step, make_trainer
from semisalt.config import Config
from semisalt.data.tiles import Survey

# The methods that learn from unlabelled tiles as they train.
METHODS = ("mean_teacher", "co_training")
# Any number will do: with one given, all batches of a supervised training too are full.
_EPOCH_STEPS = 100


@dataclass(frozen=True)
class MethodCosts:
    """Steps of the loop on the same number of tiles. Ratios are taken round by round, then summed up.

    Attributes:
        labelled, unlabelled: tiles of a step; of co-training, the labelled ones of each view.
        mirrored: whether the teacher looks at each tile's mirror image, too, which is a second pass.
        views: the networks of co-training.
        rounds: how often.
        supervised: seconds of a supervised step on labelled + unlabelled tiles, all of them with labels.
        steps: seconds of each method's step.
        ratios: each method's step over the supervised one.
    """

    labelled: int
    unlabelled: int
    mirrored: bool
    views: int
    rounds: int
    supervised: Spread
    steps: dict[str, Spread]
    ratios: dict[str, Spread]


def measure_methods(
    config: Config,
    methods: Sequence[str],
    survey: Survey,
    device: torch.device,
    folder: Path,
    seconds: float,
    announce: Callable[[str], None],
) -> MethodCosts:
    """Time the loop's step by each of the methods and by supervision in turn, by a settled configuration's settings.

    See `interleaved` for `seconds` and `announce`; `folder` stays empty.
    """
    announce(f"steps of supervision, {', '.join(methods)} in turn:")
    made = contenders(config, methods)
    trainers = {name: make_trainer(one, survey, device, folder) for name, one in made.items()}
    actions = {name: loop_step(trainer) for name, trainer in trainers.items()}
    return summarise_methods(config, interleaved(actions, seconds=seconds, device=device, announce=announce))


def contenders(config: Config, methods: Sequence[str]) -> dict[str, Config]:
    """The recipe by each of the methods, and by supervision on as many tiles a step as these have of both kinds.

    What a step computes must not hang on what networks say of noise: all losses of the end of the training count from
    the start, and so do all unlabelled tiles.
    """
    config = config.model_copy(
        update={
            "loss": config.loss.model_copy(update={"switch_epoch": 0}),
            "teacher": config.teacher.model_copy(update={"agreement": 0.0, "empty_below": 1.0}),
        }
    )
    # The teacher is an average of the weights already; nobody keeps another one.
    training = {"ema_decay": None, "epoch_steps": config.training.epoch_steps or _EPOCH_STEPS}
    labelled = config.training.batch
    batches = {"supervised": labelled + config.unlabelled_batch, **dict.fromkeys(methods, labelled)}
    return {
        method: config.model_copy(
            update={"method": method, "training": config.training.model_copy(update={**training, "batch": batch})}
        )
        for method, batch in batches.items()
    }


def summarise_methods(config: Config, times: Mapping[str, Seconds]) -> MethodCosts:
    """Seconds a step of each of the `contenders` of a recipe, [rounds], summed up."""
    supervised = times["supervised"]
    measured = {name: seconds for name, seconds in times.items() if name != "supervised"}
    return MethodCosts(
        labelled=config.training.batch,
        unlabelled=config.unlabelled_batch,
        mirrored=config.teacher.mirrored,
        views=config.co_training.views,
        rounds=len(supervised),
        supervised=spread(supervised),
        steps={name: spread(seconds) for name, seconds in measured.items()},
        ratios={name: spread(seconds / supervised) for name, seconds in measured.items()},
    )
