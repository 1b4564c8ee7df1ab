"""Predictions as pictures: a probability map and a mask for every tile, and the contact sheets worth opening."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.files import write_bytes
from semisalt.inference.evaluate import load_oof, operating_point
from semisalt.inference.outputs import Prediction
from semisalt.inference.threshold import apply
from semisalt.metrics import Masks, iou, overlap, precision
from semisalt.report.figures import Picture, heat, outlined, sheet, stack
from semisalt.run import RunDirectory

SHOWN = 24  # tiles on a contact sheet
_FOLDERS = ("probability", "mask")


def write_maps(folder: Path, ids: Sequence[str], probabilities: NDArray[np.uint8], masks: NDArray[np.uint8]) -> int:
    """Write folder/probability/ID.png (0 … 255 for p = 0 … 1) and folder/mask/ID.png (255: salt); returns how many.

    Both folders are made beside the old ones and take their place when they are complete, so that they never mix two
    predictions and a killed call leaves the old maps. That costs four renames; one a file would cost 37,600 on the TGS
    tiles.

    Args:
        folder: where the two folders go; what else lies there is left alone.
        ids: a name for each tile.
        probabilities: uint8 [N, H, W].
        masks: [N, H, W], 0 or 1.

    Raises:
        UserError: ids that cannot name a file of their own; all of them are told before anything is written.
        ValueError: not as many ids, probabilities and masks.
    """
    if not len(ids) == len(probabilities) == len(masks):
        raise ValueError(f"{len(ids)} ids, {len(probabilities)} probability maps, {len(masks)} masks")
    _check_names(ids)
    fresh = folder / ".maps.tmp"
    shutil.rmtree(fresh, ignore_errors=True)  # of a killed call
    for name in _FOLDERS:
        (fresh / name).mkdir(parents=True)

    def write(index: int) -> None:
        (fresh / "probability" / f"{ids[index]}.png").write_bytes(_png(probabilities[index]))
        (fresh / "mask" / f"{ids[index]}.png").write_bytes(_png(masks[index] * np.uint8(255)))

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write, range(len(ids))))
        for name in _FOLDERS:
            _take_place(fresh / name, folder / name, fresh / f"old {name}")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return len(ids)


def overview(run: RunDirectory, prediction: Prediction, path: Path) -> None:
    """A contact sheet of predicted tiles: the most uncertain and random ones, each beside its probability map.

    Uncertain is a high mean entropy of the pixels' probabilities. Blank tiles are left out.

    Args:
        run: names the sheet and seeds the choice.
        prediction: of N tiles; their masks, if they have any, are drawn as the truth.
        path: the PNG to write.
    """
    tiles, probabilities, masks = prediction.tiles, prediction.probabilities, prediction.masks
    cut = f", at threshold {prediction.operating.threshold:.2f}"
    entropy = uncertainty(probabilities)
    seen = np.flatnonzero(~tiles.blank)
    seen = seen[np.argsort(-entropy[seen], kind="stable")]
    uncertain, rest = seen[: SHOWN // 2], seen[SHOWN // 2 :]
    shuffled = np.random.default_rng(run.config.seed).permutation(rest)[: SHOWN // 2]
    scale = _scale(tiles.shape, 200)

    def show(heading: str, chosen: NDArray[np.int64]) -> Picture:
        pairs = [_pair(tiles, probabilities, masks, index, scale) for index in chosen]
        captions = [
            f"{tiles.ids[index]}  salt {masks[index].mean():.0%}  entropy {entropy[index]:.2f}" for index in chosen
        ]
        legend = ("prediction",) if tiles.masks is None else ("truth", "prediction")
        return sheet(
            pairs,
            captions,
            _columns(2 * scale * tiles.shape[1], 1700),
            title=f"{run.path.name}: {heading}{cut}",
            legend=legend,
        )

    parts = [
        show("most uncertain predictions, each beside its probability", uncertain),
        show("random predictions", np.sort(shuffled)),
    ]
    write_picture(path, stack(parts))


def oof_overview(run: RunDirectory, labelled: TileSet, path: Path) -> None:
    """A contact sheet of the worst, median and best out-of-fold tiles at the run's operating point, with scores.

    Tiles without salt that were predicted so are left out: there is nothing to see on them. Raises UserError while no
    fold is finished.
    """
    probabilities, tiles, _ = load_oof(run, labelled)
    operating = operating_point(run)
    masks = apply(probabilities, operating)
    cut = f", at threshold {operating.threshold:.2f}"
    assert tiles.masks is not None  # noqa: S101  # out-of-fold tiles are labelled
    order = worst_first(masks, tiles.masks)
    order = order[np.any(masks | tiles.masks, axis=(1, 2))[order]]
    each = min(SHOWN // 4, max(1, len(order) // 3))
    middle = max(0, len(order) - each) // 2
    ranked = {"worst": order[:each], "median": order[middle:][:each], "best": order[-each:]}
    scale = _scale(tiles.shape, 400)
    mark = " (INFLATED: their folds know them)" if run.inflated else ""
    parts = []
    for heading, chosen in ranked.items():
        part = tiles.subset(chosen)
        assert part.masks is not None  # noqa: S101
        pictures = [outlined(*three, scale) for three in zip(part.images, part.masks, masks[chosen], strict=True)]
        scores = zip(part.ids, precision(masks[chosen], part.masks), iou(masks[chosen], part.masks), strict=True)
        captions = [f"{tile}  score {score:.1f}  IoU {share:.2f}" for tile, score, share in scores]
        title = f"{run.path.name}: {heading} out-of-fold tiles with salt in truth or prediction{cut}{mark}"
        parts.append(sheet(pictures, captions, _columns(scale * tiles.shape[1], 2500), title=title))
    write_picture(path, stack(parts))


def worst_first(prediction: Masks, truth: Masks) -> NDArray[np.int64]:
    """Tiles `[N]` from the worst to the best: by score, among equals by IoU, then by the number of wrong pixels."""
    intersection, union = overlap(prediction, truth)
    return np.lexsort((intersection - union, iou(prediction, truth), precision(prediction, truth)))


def uncertainty(probabilities: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean over the pixels of −p log₂ p − (1 − p) log₂ (1 − p), in bits: 0 (sure) … 1; `[N]` from uint8 `[N, H, W]`."""
    p = np.arange(1, 255) / 255
    entropy = np.zeros(256, np.float32)
    entropy[1:255] = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    return np.array([entropy[tile].mean(dtype=np.float64) for tile in probabilities])


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture as PNG, atomically."""
    write_bytes(path, _png(np.ascontiguousarray(picture[..., ::-1])))


def _check_names(ids: Sequence[str]) -> None:
    bad = [repr(name) for name in ids if name in ("", ".", "..") or any(letter in name for letter in "/\\\0")]
    bad += [f"{name!r} ({count} times)" for name, count in Counter(ids).items() if count > 1]
    if bad:
        shown = ", ".join(bad[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise UserError(f"tile ids that cannot be file names: {shown}")


def _take_place(fresh: Path, place: Path, aside: Path) -> None:
    if place.exists():
        place.replace(aside)
    fresh.replace(place)


def _png(image: NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".png", image)
    if not encoded:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape}")
    return data.tobytes()


def _pair(
    tiles: TileSet, probabilities: NDArray[np.uint8], masks: NDArray[np.uint8], index: int, scale: int
) -> Picture:
    truth = None if tiles.masks is None else tiles.masks[index]
    picture = outlined(tiles.images[index], truth, masks[index], scale)
    return np.hstack([picture, heat(probabilities[index], scale)])


def _scale(shape: tuple[int, int], side: int) -> int:
    """The enlargement that brings a tile's longer side near `side` pixels."""
    return max(1, round(side / max(shape)))


def _columns(width: int, room: int) -> int:
    """How many pictures of `width` pixels fit some `room` pixels, of those numbers that give whole rows."""
    return max(count for count in (1, 2, 3, 4, 6) if count <= max(1, room // width))
