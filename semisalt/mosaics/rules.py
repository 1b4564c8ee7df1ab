"""Rules on the mosaic grid: what a labelled tile says of its neighbours' masks.

A rule is a function of a `View` that proposes masks; it sees labels only where they are known. Its trust is rehearsed
on the known labels themselves: how well would it have done on known neighbours? So a rule that does not hold in a
survey switches itself off there. They hold in the TGS survey, whose labellers worked on whole sections: salt that
leaves a tile as vertical stripes goes on as such, and the inside of a body is labelled empty below its top.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from semisalt.inference.threshold import apply
from semisalt.metrics import iou
from semisalt.mosaics.agreement import agreeing, border_trust, evidence
from semisalt.mosaics.grid import Side
from semisalt.mosaics.view import Flags, View

# A rule speaks when it expects this score or more: about what a network alone reaches, and what being right on
# three known neighbours of three is worth (see `view.expected`).
LEAST = 0.75
_AGREEING = 0.85  # share of border pixels that must agree over a joint
_GUARD = 0.5  # IoU with the prediction from which on a tile above is touched

Masks = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask [H, W] for a tile, the score that is expected of it, and why."""

    tile: int
    mask: Masks
    confidence: float
    rule: str
    reason: str


Rule = Callable[[View], list[Proposal]]


def continue_below(view: View) -> list[Proposal]:
    """Below a mask whose lower half is vertical (all rows equal, neither empty nor full) its bottom row repeats."""
    height = view.labels.shape[1]
    sources = view.known & _partly(view.labels[:, -1])
    sources[sources] = (view.labels[sources, height // 2 :] == view.labels[sources, -1:]).all(axis=(1, 2))
    return _downwards(view, sources, "continue below", "the vertical salt of {} goes on below it")


def empty_below(view: View) -> list[Proposal]:
    """Below a mask whose bottom row is all salt there is none: the inside of a body is labelled empty."""
    sources = view.known & view.labels[:, -1].all(axis=1)
    return _downwards(view, sources, "empty below full", "the bottom row of {} is all salt", empty=True)


def continue_above(view: View) -> list[Proposal]:
    """Above a mask whose upper half is vertical its top row repeats, guarded: the network must half agree.

    A body may begin in the tile above, so that only predictions with an IoU of .5 or more with the proposal are
    replaced. The trust is rehearsed without the guard.
    """
    height = view.labels.shape[1]
    sources = view.known & _partly(view.labels[:, 0])
    sources[sources] = (view.labels[sources, : (height + 1) // 2] == view.labels[sources, :1]).all(axis=(1, 2))
    first, above = view.pairs(sources, "above")
    masks = np.broadcast_to(view.labels[first, :1], (len(first), *view.labels.shape[1:]))
    trust = view.rehearsed(above, masks)
    proposals = []
    for source, tile, mask in zip(first.tolist(), above.tolist(), masks, strict=True):
        confidence = trust * float(view.joint["above"][source])
        if confidence >= LEAST and view.targets[tile] and _iou(_mask(view, tile), mask) >= _GUARD:
            reason = f"the vertical salt of {view.ids[source]} begins above it"
            proposals.append(Proposal(tile, mask.copy(), confidence, "continue above", reason))
    return proposals


def agree_with_borders(view: View) -> list[Proposal]:
    """Near a joint with a labelled neighbour the probabilities lean towards the label of its border.

    The log-odds of a pixel gain the evidence of the border pixel beside it, by their distance; see `agreement`. A side
    on which known pairs' borders do not agree (TGS: left and right) is left out.
    """
    found = evidence(view.labels[view.known])
    leaning: dict[int, list[tuple[Side, int]]] = {}
    confidence: dict[int, float] = {}
    for side in view.neighbours:
        trust = border_trust(view, side)
        tiles, sources = view.pairs(view.targets, side)
        for tile, source in zip(tiles.tolist(), sources.tolist(), strict=True):
            sure = trust * float(view.joint[side][tile])
            if sure >= _AGREEING and view.known[source]:
                leaning.setdefault(tile, []).append((side, source))
                confidence[tile] = min(sure, confidence.get(tile, 1.0))
    proposals = []
    for tile, sides in leaning.items():
        changed = agreeing(view.probabilities[tile], {side: view.labels[source] for side, source in sides}, found)
        mask = apply(changed[None], view.operating)[0]
        if not np.array_equal(mask, _mask(view, tile)):
            names = " and ".join(f"{view.ids[source]} ({side})" for side, source in sides)
            proposals.append(Proposal(tile, mask, confidence[tile], "border agreement", f"the border of {names}"))
    return proposals


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "continue below": continue_below,
        "continue above": continue_above,
        "empty below full": empty_below,
        "border agreement": agree_with_borders,
    }
)


def choose(proposals: Iterable[Proposal]) -> list[Proposal]:
    """One proposal a tile: the most confident; one that only leans on borders where no other speaks."""
    best: dict[int, Proposal] = {}
    for proposal in sorted(proposals, key=lambda p: (p.rule == "border agreement", -p.confidence, p.rule)):
        best.setdefault(proposal.tile, proposal)
    return [best[tile] for tile in sorted(best)]


def correct(view: View) -> tuple[Masks, list[Proposal]]:
    """Masks of the targets, in their order, corrected by all rules; and the proposals that were followed.

    Returns:
        [n, H, W] for the n targets, 0 or 1, and one proposal for each that was touched.
    """
    masks = apply(view.probabilities[view.targets], view.operating)
    chosen = choose(proposal for rule in RULES.values() for proposal in rule(view))
    row = np.cumsum(view.targets) - 1
    for proposal in chosen:
        masks[row[proposal.tile]] = proposal.mask
    return masks, chosen


def _downwards(view: View, sources: Flags, rule: str, reason: str, *, empty: bool = False) -> list[Proposal]:
    """Propose the source's bottom row (or nothing) for the tiles below it, down to the first that is known."""
    shape = view.labels.shape[1:]
    first, below = view.pairs(sources, "below")
    masks = np.broadcast_to(view.labels[first, -1:] * np.uint8(not empty), (len(first), *shape))
    trust = view.rehearsed(below, masks)
    proposals = []
    for source, mask in zip(first.tolist(), masks, strict=True):
        tile, confidence = source, 1.0
        while (under := int(view.neighbours["below"][tile])) >= 0 and not view.known[under]:
            confidence *= trust * float(view.joint["below"][tile])
            tile = under
            if confidence < LEAST:
                break
            if view.targets[tile]:
                proposals.append(Proposal(tile, mask.copy(), confidence, rule, reason.format(view.ids[source])))
    return proposals


def _partly(rows: Masks) -> Flags:
    """Which rows [N, W] hold salt and background both."""
    return np.asarray(rows.any(axis=1) & ~rows.all(axis=1))


def _mask(view: View, tile: int) -> Masks:
    return np.asarray(apply(view.probabilities[tile : tile + 1], view.operating)[0])


def _iou(a: Masks, b: Masks) -> float:
    return float(iou(a[None], b[None])[0])
