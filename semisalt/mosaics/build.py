"""From a survey to its mosaics."""

from semisalt.data.cache import user_folder
from semisalt.data.tiles import Survey, join
from semisalt.errors import UserError
from semisalt.files import write_text
from semisalt.mosaics.assemble import assemble
from semisalt.mosaics.borders import SMALLEST
from semisalt.mosaics.grid import Mosaics, Pairs, read_mosaics, write_mosaics
from semisalt.mosaics.match import find

VERSION = 2  # goes up whenever the same tiles would be assembled into something else
COMPLETE = "complete"


def build(survey: Survey) -> tuple[Mosaics, Pairs]:
    """The mosaics of all tiles of a survey, labelled ones first, in the survey's order; masks are not looked at.

    Returns:
        The mosaics, and the pairs that they are made of: all accepted ones but those that assembly refused.

    Raises:
        UserError: the tiles are smaller than matching needs.
    """
    tiles = join(survey.labelled, survey.unlabelled)
    if min(tiles.shape) < SMALLEST:
        raise UserError(f"{survey.source}: tiles of {tiles.shape} pixels; matching needs {SMALLEST} a side or more")
    matches = find(tiles.images)
    mosaics, _ = assemble(tiles.ids, matches.pairs, matches.fit)
    return mosaics, standing(mosaics, matches.pairs)


def standing(mosaics: Mosaics, pairs: Pairs) -> Pairs:
    """The pairs whose tiles lie beside each other, as the pairs say, in the mosaics."""
    around = mosaics.neighbours()
    right = around["right"][pairs.first] == pairs.second
    below = around["below"][pairs.first] == pairs.second
    return pairs.only((pairs.below & below) | (~pairs.below & right))


def cached(survey: Survey) -> tuple[Mosaics, Pairs]:
    """As `build`, kept in the user's cache folder by the survey's fingerprint and the version of the matching."""
    folder = user_folder() / f"mosaics-{VERSION}-{survey.fingerprint[:16]}"
    if (folder / COMPLETE).exists():
        return read_mosaics(folder)
    mosaics, pairs = build(survey)
    write_mosaics(folder, mosaics, pairs)
    write_text(folder / COMPLETE, "")
    return mosaics, pairs
