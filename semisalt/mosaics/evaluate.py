"""The verdict on mosaics: what each rule is worth on a run's out-of-fold tiles, alone and together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey
from semisalt.files import write_json
from semisalt.inference.build import build_network
from semisalt.inference.evaluate import load_oof
from semisalt.inference.threshold import apply
from semisalt.metrics import Interval, bootstrap, paired_bootstrap, precision
from semisalt.mosaics.grid import Mosaics, Pairs
from semisalt.mosaics.groups import crossing_pairs
from semisalt.mosaics.joined import predict_joined
from semisalt.mosaics.rules import RULES, Proposal, choose
from semisalt.mosaics.view import HALF, View, all_tiles, known_labels, view_of
from semisalt.run import RunDirectory, read_csv

Announce = Callable[[str], None]
Masks = NDArray[np.uint8]
Scores = NDArray[np.float64]

WINDOWED, BLENDED, ALL = "predict joined", "joined, blended", "all"


@dataclass(frozen=True)
class RuleVerdict:
    """What a rule did to the out-of-fold tiles.

    Attributes:
        name: the rule's, or one of `WINDOWED`, `BLENDED`, `ALL`.
        score: mean precision over all out-of-fold tiles with the rule.
        change: that minus the score without mosaics, paired over the tiles.
        touched: tiles whose mask the rule set or that it predicted anew.
        better, equal, worse: of these, by their score before and after.
        before, after: mean precision of the touched tiles; 0 for none.
        unlabelled: unlabelled tiles that it would touch; None where that takes predictions which the run has not.
    """

    name: str
    score: Interval
    change: Interval
    touched: int
    better: int
    equal: int
    worse: int
    before: float
    after: float
    unlabelled: int | None


@dataclass(frozen=True)
class Verdict:
    """Out-of-fold scores without mosaics and with each rule.

    Attributes:
        run: the run's name.
        tiles: out-of-fold tiles scored.
        placed: of these, how many lie in a mosaic.
        mosaics: mosaics of the survey.
        mosaic_tiles: tiles in them, labelled or not.
        crossing: pairs of labelled neighbours whose tiles are in different folds.
        pairs: pairs of labelled neighbours.
        alone: mean precision without mosaics, at 0.5 without post-processing.
        rules: each rule, then all together.
        inflated: why the scores know the tiles that they are made on; None where they do not.
    """

    run: str
    tiles: int
    placed: int
    mosaics: int
    mosaic_tiles: int
    crossing: int
    pairs: int
    alone: Interval
    rules: tuple[RuleVerdict, ...]
    inflated: str | None = None


def evaluate(
    run: RunDirectory, survey: Survey, mosaics: Mosaics, pairs: Pairs, device: torch.device, announce: Announce
) -> Verdict:
    """Score a run's out-of-fold tiles without and with each rule, and keep the verdict in results.json.

    A tile of fold k is corrected by labels of fold k's training tiles alone. All scores are at 0.5 without
    post-processing: nothing is chosen on any tile, so that the comparison is of the rules and not of a threshold. The
    rules themselves were found on the survey's labels by others, and the joined prediction's guard (a tile whose own
    view shows no salt stays empty) on out-of-fold tiles of the TGS survey, which flatters them a little.

    Raises:
        UserError: no fold of the run is finished, or the mosaics are of other tiles.
    """
    tiles = all_tiles(survey, mosaics)
    results = run.results
    probabilities, scored, fold_of = load_oof(run, survey.labelled)
    assert scored.masks is not None and survey.labelled.masks is not None  # noqa: PT018, S101  # both are labelled
    position = {tile: at for at, tile in enumerate(mosaics.ids)}
    at = np.array([position[tile] for tile in scored.ids], np.int64)
    masks = apply(probabilities, HALF)
    changed: dict[str, dict[int, Masks]] = {name: {} for name in (*RULES, WINDOWED, BLENDED, ALL)}
    row_of = {int(tile): row for row, tile in enumerate(at)}
    channels = Channels(**run.channels)
    network = build_network(run.config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    for fold in run.finished_folds():
        own = at[fold_of == fold]
        file = run.path / "mosaics" / f"fold{fold}.npy"
        announce(f"fold {fold}: tiles with neighbours on the joined mosaic → {file}")
        joined = predict_joined(run, fold, tiles, mosaics, own, file, network, device)
        known = known_labels(run, mosaics.ids, fold)
        view = view_of(mosaics, pairs, survey.labelled.masks, known, own, probabilities[fold_of == fold])
        for name, masks_of in corrections(view, joined.tiles, joined.windowed, joined.blended).items():
            changed[name] |= {row_of[tile]: mask for tile, mask in masks_of.items()}
    unlabelled = unlabelled_touched(run, survey, mosaics, pairs)
    base = precision(masks, scored.masks)
    rules = tuple(judge(name, base, scored.masks, changed[name], unlabelled.get(name)) for name in changed)
    verdict = _verdict(run, mosaics, at, base, rules)
    write_json(run.path / "results.json", {**results, "mosaics": asdict(verdict)})
    return verdict


def corrections(
    view: View, placed: NDArray[np.int64], windowed: NDArray[np.uint8], blended: NDArray[np.uint8]
) -> dict[str, dict[int, Masks]]:
    """By rule: the tiles that it touches, and their masks [H, W].

    All together is the prediction on the joined mosaic, corrected by the rules. Blending is left out of it: it asks for
    more predictions and has not been seen to gain anything.

    Args:
        view: what the rules see; its targets are the tiles to correct.
        placed: [m], the targets that were predicted on the joined mosaic.
        windowed, blended: [m, H, W], what came of it.
    """
    found = {name: _masks_of(choose(rule(view))) for name, rule in RULES.items()}
    for name, maps in ((WINDOWED, windowed), (BLENDED, blended)):
        found[name] = dict(zip(placed.tolist(), apply(maps, view.operating), strict=True)) if len(placed) else {}
    joined = view.probabilities.copy()
    joined[placed] = windowed
    together = replace(view, probabilities=joined)
    proposals = [proposal for rule in RULES.values() for proposal in rule(together)]
    found[ALL] = found[WINDOWED] | _masks_of(choose(proposals))
    return found


def judge(
    name: str,
    base: Scores,
    truth: Masks,
    changed: Mapping[int, Masks],
    unlabelled: int | None = None,
) -> RuleVerdict:
    """What a rule's masks are worth.

    Args:
        name: the rule's.
        base: [n], the tiles' scores without it.
        truth: [n, H, W].
        changed: the rule's mask [H, W] for each tile that it touches.
        unlabelled: see `RuleVerdict`.
    """
    touched = np.array(sorted(changed), np.int64)
    scores = base.copy()
    if len(touched):
        scores[touched] = precision(np.stack([changed[row] for row in touched.tolist()]), truth[touched])
    before, after = base[touched], scores[touched]
    return RuleVerdict(
        name=name,
        score=bootstrap(scores),
        change=paired_bootstrap(scores, base),
        touched=len(touched),
        better=int(np.count_nonzero(after > before)),
        equal=int(np.count_nonzero(after == before)),
        worse=int(np.count_nonzero(after < before)),
        before=float(before.mean()) if len(touched) else 0.0,
        after=float(after.mean()) if len(touched) else 0.0,
        unlabelled=unlabelled,
    )


def unlabelled_touched(run: RunDirectory, survey: Survey, mosaics: Mosaics, pairs: Pairs) -> dict[str, int]:
    """How many unlabelled tiles each rule that asks for no prediction would touch, by all labels the run may use."""
    assert survey.labelled.masks is not None  # noqa: S101
    first = len(survey.labelled)
    targets = np.arange(first, len(mosaics))
    nothing = np.zeros((len(targets), *survey.labelled.shape), np.uint8)
    view = view_of(mosaics, pairs, survey.labelled.masks, known_labels(run, mosaics.ids, None), targets, nothing)
    counts = {name: len(choose(RULES[name](view))) for name in ("continue below", "empty below full")}
    in_mosaic = int(np.count_nonzero(mosaics.mosaic[first:] >= 0))
    return counts | {WINDOWED: in_mosaic, BLENDED: in_mosaic}


def _verdict(
    run: RunDirectory, mosaics: Mosaics, at: NDArray[np.int64], base: Scores, rules: Sequence[RuleVerdict]
) -> Verdict:
    rows: list[dict[str, Any]] = read_csv(run.path / "folds.csv")
    folds = np.array([int(row["fold"]) for row in rows], np.int64)
    crossing, pairs = crossing_pairs(mosaics, [row["id"] for row in rows], folds)
    return Verdict(
        run=run.path.name,
        tiles=len(at),
        placed=int(np.count_nonzero(mosaics.mosaic[at] >= 0)),
        mosaics=mosaics.count,
        mosaic_tiles=int(np.count_nonzero(mosaics.mosaic >= 0)),
        crossing=crossing,
        pairs=pairs,
        inflated=run.inflated,
        alone=bootstrap(base),
        rules=tuple(rules),
    )


def _masks_of(proposals: Sequence[Proposal]) -> dict[int, Masks]:
    return {proposal.tile: proposal.mask for proposal in proposals}
