"""Which tiles must share a fold: neighbours in different folds let one validate on what another has nearly seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.mosaics.build import cached
from semisalt.mosaics.grid import Mosaics
from semisalt.training.crossval import divide


def grouped(survey: Survey, config: Config) -> Survey:
    """The survey, with its groups where the configuration keeps mosaics together.

    Raises UserError where the configuration asks for mosaics, and the tiles are too small to find any.
    """
    if config.data.groups == "none":
        return survey
    mosaics, _ = cached(survey)
    return replace(survey, groups=group_numbers(mosaics, survey.labelled.ids))


def warn_of_crossings(survey: Survey, config: Config, announce: Callable[[str], None]) -> None:
    """Tell how many pairs of neighbours the folds part, where they do; tiles too small to be matched have none."""
    try:
        mosaics, _ = cached(survey)
    except UserError:
        return
    division = divide(survey, config)
    across, pairs = crossing_pairs(mosaics, division.tiles.ids, division.folds)
    if across:
        announce(
            f"{across} of {pairs} pairs of neighbouring labelled tiles lie in different folds, which flatters the "
            "scores; --set data.groups=mosaic keeps them together"
        )


def group_numbers(mosaics: Mosaics, ids: Sequence[str]) -> NDArray[np.int64]:
    """[n]: a number for each of these tiles, the same for tiles of one mosaic; a tile without any has its own.

    Raises ValueError for an id that the mosaics do not know.
    """
    at = _positions(mosaics, ids)
    alone = mosaics.count + np.arange(len(at))
    _, numbers = np.unique(np.where(mosaics.mosaic[at] >= 0, mosaics.mosaic[at], alone), return_inverse=True)
    return numbers.astype(np.int64)


def crossing_pairs(mosaics: Mosaics, ids: Sequence[str], folds: NDArray[np.int64]) -> tuple[int, int]:
    """How many pairs of neighbours among these tiles lie in different folds ([n]), and how many pairs there are.

    Raises ValueError for an id that the mosaics do not know.
    """
    at = _positions(mosaics, ids)
    fold_of = np.full(len(mosaics), -1, np.int64)
    fold_of[at] = folds
    across = pairs = 0
    for side in ("right", "below"):
        beside = mosaics.neighbours()[side][at]
        both = (beside >= 0) & (fold_of[beside] >= 0)
        pairs += int(np.count_nonzero(both))
        across += int(np.count_nonzero(both & (fold_of[beside] != folds)))
    return across, pairs


def _positions(mosaics: Mosaics, ids: Sequence[str]) -> NDArray[np.int64]:
    position = {tile: at for at, tile in enumerate(mosaics.ids)}
    unknown = [tile for tile in ids if tile not in position]
    if unknown:
        raise ValueError(f"tiles that the mosaics do not know: {', '.join(unknown[:5])}")
    return np.array([position[tile] for tile in ids], np.int64)
