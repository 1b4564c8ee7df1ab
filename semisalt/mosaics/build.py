"""From a survey to its mosaics."""

import numpy as np

from semisalt.data.cache import user_folder
from semisalt.data.tiles import Survey, join
from semisalt.errors import UserError
from semisalt.files import write_text
from semisalt.mosaics.assemble import assemble
from semisalt.mosaics.borders import SMALLEST
from semisalt.mosaics.grid import STEPS, Mosaics, Pairs, join_pairs, read_mosaics, write_mosaics
from semisalt.mosaics.match import DIRECTIONS, Matches, find

VERSION = 3  # goes up whenever the same tiles would be assembled into something else
COMPLETE = "complete"


def build(survey: Survey) -> tuple[Mosaics, Pairs]:
    """The mosaics of all tiles of a survey, labelled ones first, in the survey's order; masks are not looked at.

    Returns:
        The mosaics, and all pairs of tiles that lie side by side in them.

    Raises:
        UserError: the tiles are smaller than matching needs.
    """
    tiles = join(survey.labelled, survey.unlabelled)
    if min(tiles.shape) < SMALLEST:
        raise UserError(f"{survey.source}: tiles of {tiles.shape} pixels; matching needs {SMALLEST} a side or more")
    matches = find(tiles.images)
    mosaics, _ = assemble(tiles.ids, matches.pairs, matches.fit)
    return mosaics, side_by_side(mosaics, matches)


def side_by_side(mosaics: Mosaics, matches: Matches) -> Pairs:
    """All tiles that lie side by side in the mosaics: in the tiles' order, right before below.

    A matched pair has its own probability. Two tiles that adjoin by placement alone (their joint tells too little to be
    matched, but other joints hold their pieces together) have that of the weakest matched pair of either.
    """
    own = {side: mosaics.joint(side, matches.pairs) for side in STEPS}
    weakest = np.min([np.nan_to_num(values, nan=1.0) for values in own.values()], axis=0)
    around = mosaics.neighbours()
    parts = []
    for side in DIRECTIONS:
        first = np.flatnonzero(around[side] >= 0)
        second, below = around[side][first], np.full(len(first), side == "below")
        placed = np.minimum(weakest[first], weakest[second])
        probability = np.where(np.isnan(own[side][first]), placed, own[side][first]).astype(np.float32)
        parts.append(Pairs(first, second, below, matches.distance(first, second, below), probability))
    return join_pairs(parts)


def cached(survey: Survey) -> tuple[Mosaics, Pairs]:
    """As `build`, kept in the user's cache folder by the survey's fingerprint and the version of the matching."""
    folder = user_folder() / f"mosaics-{VERSION}-{survey.fingerprint[:16]}"
    if (folder / COMPLETE).exists():
        return read_mosaics(folder)
    mosaics, pairs = build(survey)
    write_mosaics(folder, mosaics, pairs)
    write_text(folder / COMPLETE, "")
    return mosaics, pairs
