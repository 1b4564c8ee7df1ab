"""Whether a method that teaches itself still sees salt."""

import math
from collections.abc import Mapping
from pathlib import Path

from semisalt.config import Config
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError

_REMEDIES = {
    "mean_teacher": "a lower teacher.weight, or --from a finished run of the same network, a baseline's for example",
    "co_training": "lower co_training.agreement and co_training.difference",
}
# What the labels' loss counts at least where the other losses are held against it: a hinge alone reaches 0.
_LEAST_LOSS = 1e-6
# However slowly the weights of what is learned from unlabelled tiles rise: from here on a training is judged.
_LONGEST_WARM_UP = 0.6


def prior_of(train: TileSet) -> dict[str, float]:
    """Share of salt, and of tiles with any, among the labelled tiles."""
    coverage = train.coverage
    return {"prior_foreground": float(coverage.mean()), "prior_non_empty": float((coverage > 0).mean())}


def health_of(record: Mapping[str, float]) -> dict[str, float]:
    """An epoch's figures of health, by name; empty for a method that does not teach itself."""
    return {name.removeprefix("health/"): value for name, value in record.items() if name.startswith("health/")}


def health_beside(record: Mapping[str, float], train: TileSet) -> dict[str, float]:
    """What belongs beside an epoch's figures of health, by its name in the log; empty where there are none.

    That is `prior_of` the labelled tiles, and `consistency_share`, the loss on unlabelled tiles over that on labelled
    ones: of the epoch's means, since a single step's loss on labelled tiles may be nearly 0.
    """
    if not health_of(record):
        return {}
    beside = prior_of(train)
    if "loss/supervised" in record:
        supervised = record["loss/supervised"]
        beside["consistency_share"] = (record["loss/total"] - supervised) / max(supervised, _LEAST_LOSS)
    return {f"health/{name}": value for name, value in beside.items()}


def refuse_collapse(folder: Path, record: Mapping[str, float], config: Config, began: float) -> None:
    """Stop a training whose predictions on unlabelled tiles have collapsed to background.

    Args:
        folder: the fold's, to be named.
        record: the epoch's, with 'health/foreground' and 'health/prior_foreground' where the method teaches itself.
        config: tells how long the warm-up is, in which anything may happen.
        began: share of the training that was done when the epoch began: its figures are means over all of it.

    Raises:
        UserError: after the warm-up, or three fifths of the training, the foreground is under the share
            `unlabelled.least_salt` of the labelled prior's.
    """
    health = health_of(record)
    # A network's first epoch says nothing, even without a warm-up.
    early = began == 0 or began < min(config.warm_up, _LONGEST_WARM_UP)
    if not health or early or health["foreground"] >= config.unlabelled.least_salt * health["prior_foreground"]:
        return
    most = math.floor(1000 * health["foreground"] / health["prior_foreground"]) / 1000
    figures = ", ".join(f"{name} {value:.3f}" for name, value in health.items())
    raise UserError(
        f"{folder}: the predictions on unlabelled tiles have collapsed to background after epoch "
        f"{int(record['epoch']) + 1}: {figures}. They would teach the network to see nothing: begin anew under "
        f"another --run, with {_REMEDIES[config.method]}. Where the unlabelled tiles truly have so little salt, go on "
        f"by --resume and --set unlabelled.least_salt={most:g} or less (0: never stop)"
    )
