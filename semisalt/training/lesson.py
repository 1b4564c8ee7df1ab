"""What a fold learns from beside its own labels."""

from dataclasses import dataclass
from pathlib import Path

from semisalt.config import Config
from semisalt.data.plans import MixedPlan, PairedPlan, Plan, StreamPlan
from semisalt.data.tiles import TileSet


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pseudo-labelled tiles, or unlabelled ones, or nothing; and where a fold's weights start.

    Attributes:
        tiles: pseudo-labelled tiles, with soft labels where these are learned from; None: there are none.
        shares: for each epoch, the share of a batch that is pseudo-labelled.
        weights: a network's weights to start from; None: the configured encoder's.
        bare: unlabelled tiles, for a method that learns from them as it trains; None: it does not.
    """

    tiles: TileSet | None = None
    shares: tuple[float, ...] = ()
    weights: Path | None = None
    bare: TileSet | None = None

    def plan(self, real: int, config: Config, rank: int = 0, world: int = 1) -> Plan:
        """The batches of `real` labelled tiles, which lie before these ones. Raises UserError for too few of either."""
        training, seed = config.training, config.seed
        if self.tiles is not None:
            extra = len(self.tiles)
            return MixedPlan(
                real, training.batch, seed, rank, world, training.epoch_steps, extra=extra, shares=self.shares
            )
        if self.bare is not None:
            return PairedPlan(
                real,
                training.batch,
                seed,
                rank,
                world,
                training.epoch_steps,
                extra=len(self.bare),
                extra_batch=config.unlabelled_batch,
                views=config.co_training.views if config.method == "co_training" else 1,
            )
        if training.epoch_steps is not None:
            return StreamPlan(real, training.batch, seed, rank, world, training.epoch_steps)
        return Plan(real, training.batch, seed, rank, world)
