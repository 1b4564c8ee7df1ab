"""Whether a round's own models still see salt: in the out-of-fold tiles, so that the last round is watched, too."""

from dataclasses import asdict, dataclass

import numpy as np

from semisalt.data.tiles import TileSet
from semisalt.errors import RefusedError, UserError
from semisalt.inference.ensemble import mean_iou
from semisalt.inference.evaluate import load_oof
from semisalt.run import RunDirectory
from semisalt.training.crossval import Division

# Models that call less than this share of the labelled salt so, on tiles of the same kind, have forgotten it.
_COLLAPSE = 0.25


@dataclass(frozen=True)
class Guards:
    """What a round's models see in the tiles that they never learned from, at 0.5.

    Attributes:
        foreground, prior_foreground: share of salt, predicted and of the labels that the trainings use.
        empty_share, prior_empty_share: share of tiles without any, likewise.
        agreement: mean IoU with the round before's masks of the same tiles; None in round 0.
    """

    foreground: float
    prior_foreground: float
    empty_share: float
    prior_empty_share: float
    agreement: float | None

    @property
    def collapsed(self) -> bool:
        """Whether the foreground is under a quarter of the labelled prior."""
        return self.foreground < _COLLAPSE * self.prior_foreground


def guards_of(
    run: RunDirectory, before: RunDirectory | None, labelled: TileSet, division: Division, folds: tuple[int, ...]
) -> Guards:
    """A round's guards over the out-of-fold tiles of `folds`; `before` is the round before it."""
    probabilities, tiles, fold_of = load_oof(run, labelled)
    mine = np.isin(fold_of, folds)
    masks = probabilities[mine] > 127
    prior = division.tiles.subset(division.kept).coverage
    agreement = None
    if before:
        kept, others, fold_of_others = load_oof(before, labelled)
        theirs = np.isin(fold_of_others, folds)
        # Both have the same folds, each in the order of the division.
        if np.array(tiles.ids)[mine].tolist() != np.array(others.ids)[theirs].tolist():
            raise UserError(f"{before.path} and {run.path} divide the labelled tiles differently")
        agreement = float(mean_iou([kept[theirs]], probabilities[mine]).mean())
    return Guards(
        foreground=float(masks.mean()),
        prior_foreground=float(prior.mean()),
        empty_share=float((~masks.any(axis=(1, 2))).mean()),
        prior_empty_share=float((prior == 0).mean()),
        agreement=agreement,
    )


def refuse_collapsed_round(run: RunDirectory, guards: Guards) -> None:
    """Raise RefusedError, with the figures, where a round's models have forgotten the salt."""
    if guards.collapsed:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in asdict(guards).items() if value is not None)
        raise RefusedError(
            f"{run.path}: the predictions on its out-of-fold tiles have collapsed to background: {figures}. Its labels "
            "taught it to see nothing: look at them (semisalt pseudo inspect), lower pseudo.share, or choose them more "
            "strictly"
        )
