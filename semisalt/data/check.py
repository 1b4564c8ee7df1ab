"""What a survey holds, in numbers."""

from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from semisalt.data.tiles import Survey, TileSet

TINY = 20  # px


@dataclass(frozen=True)
class Description:
    """A survey in numbers; `dataclasses.asdict` gives what JSON takes.

    Attributes:
        fingerprint, source: the survey's.
        labelled, unlabelled: tiles of each kind.
        height, width: pixels of every tile.
        blank_labelled, blank_unlabelled: tiles without any signal.
        blank_with_salt: ids of blank tiles whose mask claims salt all the same.
        duplicates: groups of ids whose images are equal to the pixel, blank tiles apart.
        empty: labelled tiles without salt (blank ones among them).
        coverage_histogram: ten numbers of labelled tiles, with coverage in (0, 0.1], (0.1, 0.2] … (0.9, 1].
        tiny: masks of 1 to 20 salt pixels.
        vertical: masks whose rows are all equal, with salt in some columns but not in all.
        full: masks that are all salt.
        depth_range: (least, greatest) depth; None where no depth is known.
    """

    fingerprint: str
    source: str
    labelled: int
    unlabelled: int
    height: int
    width: int
    blank_labelled: int
    blank_unlabelled: int
    blank_with_salt: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    empty: int
    coverage_histogram: tuple[int, ...]
    tiny: int
    vertical: int
    full: int
    depth_range: tuple[float, float] | None


def describe(survey: Survey) -> Description:
    """Count what `semisalt data check` shows."""
    labelled, unlabelled = survey.labelled, survey.unlabelled
    height, width = labelled.shape
    masks = np.empty((0, height, width), dtype=np.uint8) if labelled.masks is None else labelled.masks
    salt = np.count_nonzero(masks, axis=(1, 2))
    blank_labelled, blank_unlabelled = labelled.blank, unlabelled.blank
    size = height * width
    partly = (salt > 0) & (salt < size)
    with_salt = np.flatnonzero(blank_labelled & (salt > 0))
    return Description(
        fingerprint=survey.fingerprint,
        source=str(survey.source),
        labelled=len(labelled),
        unlabelled=len(unlabelled),
        height=height,
        width=width,
        blank_labelled=int(blank_labelled.sum()),
        blank_unlabelled=int(blank_unlabelled.sum()),
        blank_with_salt=tuple(labelled.ids[position] for position in with_salt),
        duplicates=_duplicates(labelled.subset(~blank_labelled), unlabelled.subset(~blank_unlabelled)),
        empty=int(np.count_nonzero(salt == 0)),
        coverage_histogram=_histogram(salt, size),
        tiny=int(np.count_nonzero((salt > 0) & (salt <= TINY))),
        vertical=int(np.count_nonzero(partly & (masks == masks[:, :1]).all(axis=(1, 2)))),
        full=int(np.count_nonzero(salt == size)),
        depth_range=survey.depth_range,
    )


def _histogram(salt: NDArray[np.intp], size: int) -> tuple[int, ...]:
    # In whole numbers: ⌈10 · salt / size⌉ is the bin, without the doubts of a division.
    tenths = -(-10 * salt // size)
    return tuple(np.bincount(tenths, minlength=11)[1:].tolist())


def _duplicates(*parts: TileSet) -> tuple[tuple[str, ...], ...]:
    groups: defaultdict[bytes, list[str]] = defaultdict(list)
    for part in parts:
        for tile, image in zip(part.ids, part.images, strict=True):
            groups[sha256(image.tobytes()).digest()].append(tile)
    return tuple(tuple(sorted(group)) for group in groups.values() if len(group) > 1)
