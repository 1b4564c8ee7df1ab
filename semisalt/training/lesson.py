"""What a fold learns from beside its own labels."""

from dataclasses import dataclass
from pathlib import Path

from semisalt.config import Config
from semisalt.data.batches import MixedPlan
from semisalt.data.tiles import TileSet


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pseudo-labelled tiles, and how much of each epoch's batches they make.

    Attributes:
        tiles: with masks, and with soft labels where these are learned from.
        shares: for each epoch, the share of a batch that is pseudo-labelled.
        weights: a network's weights to start from; None: the configured encoder's.
    """

    tiles: TileSet
    shares: tuple[float, ...]
    weights: Path | None = None

    def plan(self, real: int, config: Config, rank: int, world: int) -> MixedPlan:
        """The batches of `real` labelled tiles, which lie before these ones. Raises UserError for too few of either."""
        return MixedPlan(
            real, config.training.batch, config.seed, rank, world, extra=len(self.tiles), shares=self.shares
        )
