"""Mosaics to look at: a picture for each of the largest, and one page to browse them."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_text
from semisalt.inference.ensemble import mean_of
from semisalt.inference.evaluate import load_oof, operating_point
from semisalt.inference.outputs import unlabelled_of
from semisalt.inference.threshold import apply
from semisalt.mosaics.amplitude import balance
from semisalt.mosaics.grid import Mosaics
from semisalt.report.figures import Color, Picture
from semisalt.report.maps import write_picture
from semisalt.run import RunDirectory

LABEL: Color = (213, 94, 0)  # the orange and the green that colour-blind readers tell apart
PREDICTION: Color = (0, 158, 115)

_PICTURED = 20  # mosaics that get a picture file of their own
_LONGEST = 1600  # px of an enlarged picture, unless the mosaic is larger by itself
_LINE, _TINT = 2, 0.2  # px and share of a mask's colour
_QUALITY = 82  # of the page's JPEGs
_STYLE = """
body { font: 15px/1.4 sans-serif; color: #2d2d2d; margin: 2em auto; max-width: 1700px; padding: 0 1em }
nav a { display: inline-block; margin: 0 .5em .2em 0 }
figure { margin: 2em 0; border-top: 1px solid #dedede; padding-top: 1em }
img { max-width: 100%; height: auto; image-rendering: auto }
td { font: 11px monospace; padding: 1px 5px } summary { cursor: pointer }
.label { color: rgb(213, 94, 0) } .prediction { color: rgb(0, 158, 115) }
"""


@dataclass(frozen=True, eq=False)
class Overlay:
    """Masks of some of N tiles: [N, H, W], 0 or 1, and which tiles have one, [N]."""

    masks: NDArray[np.uint8]
    given: NDArray[np.bool_]


def labels_of(survey: Survey) -> Overlay:
    """The labels, in the order of the survey's mosaics: labelled tiles, then unlabelled ones."""
    assert survey.labelled.masks is not None  # noqa: S101
    labelled, count = len(survey.labelled), len(survey.labelled) + len(survey.unlabelled)
    masks = np.zeros((count, *survey.labelled.shape), np.uint8)
    masks[:labelled] = survey.labelled.masks
    return Overlay(masks, np.arange(count) < labelled)


def predictions_of(run: RunDirectory, survey: Survey) -> Overlay:
    """A run's masks at its operating point, in the order of the survey's mosaics.

    Labelled tiles have their out-of-fold prediction, as far as their folds are finished; unlabelled ones the mean of
    the finished folds, as far as the run works with them.

    Raises:
        UserError: no fold is finished, or the unlabelled tiles are not predicted yet.
    """
    if run.provenance["data"] != survey.fingerprint:
        raise UserError(f"{run.path} was made from other tiles than {survey.source} holds: give a run of these tiles")
    probabilities, scored, _ = load_oof(run, survey.labelled)
    others = unlabelled_of(run, survey)
    files = [run.unlabelled / f"fold{fold}.npy" for fold in run.finished_folds()]
    if not all(file.exists() and len(np.load(file, mmap_mode="r")) == len(others) for file in files):
        raise UserError(f"{run.path} has not predicted its unlabelled tiles: semisalt predict {run.path}")
    position = {tile: at for at, tile in enumerate(survey.labelled.ids + survey.unlabelled.ids)}
    at = np.array([position[tile] for tile in (*scored.ids, *others.ids)], np.int64)
    masks = np.zeros((len(position), *survey.labelled.shape), np.uint8)
    operating = operating_point(run)
    masks[at[: len(scored)]] = apply(probabilities, operating)
    masks[at[len(scored) :]] = apply(mean_of(files), operating)
    given = np.zeros(len(position), np.bool_)
    given[at] = True
    return Overlay(masks, given)


def section(mosaics: Mosaics, images: NDArray[np.uint8], mosaic: int) -> NDArray[np.uint8]:
    """The tiles of a mosaic joined, [rows · H, columns · W]; white where none lies.

    Every tile was stretched for itself: their amplitudes are balanced along the joints, then stretched together, the
    half per cent at either end clipped.
    """
    height, width = images.shape[1:]
    grid = mosaics.tiles(mosaic)
    canvas = np.full((grid.shape[0] * height, grid.shape[1] * width), np.nan, np.float32)
    for tile, (gain, offset) in balance(mosaics, images, mosaic).items():
        canvas[_window(mosaics, tile, (height, width))] = gain * images[tile] + offset
    seen = np.isfinite(canvas)
    low, high = np.percentile(canvas[seen], (0.5, 99.5))
    grey = np.clip((canvas - low) * (255 / max(float(high - low), 1e-3)), 0, 255)
    return np.where(seen, np.nan_to_num(grey), 255).astype(np.uint8)


def picture(
    mosaics: Mosaics,
    images: NDArray[np.uint8],
    mosaic: int,
    labels: Overlay,
    predictions: Overlay | None = None,
    scale: int = 1,
) -> Picture:
    """A mosaic with labels in orange over predictions in green, tinted and outlined; labelled tiles have a thin frame.

    The frame tells a tile that was labelled empty from one without a label.

    Args:
        mosaics: where the N tiles lie.
        images: [N, H, W].
        mosaic: which one.
        labels: drawn in orange.
        predictions: drawn in green, below the labels.
        scale: enlargement.

    Returns:
        [rows · H · scale, columns · W · scale, 3].
    """
    size = (images.shape[1], images.shape[2])
    grey = section(mosaics, images, mosaic)
    large = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    page = np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)
    members = np.flatnonzero(mosaics.mosaic == mosaic)
    for tile in members[labels.given[members]].tolist():
        rows, columns = _window(mosaics, tile, size)
        low, high = (columns.start * scale, rows.start * scale), (columns.stop * scale - 1, rows.stop * scale - 1)
        cv2.rectangle(page, low, high, LABEL, 1)
    for overlay, color in ((predictions, PREDICTION), (labels, LABEL)):
        if overlay is not None:
            _lay_over(page, _joined(mosaics, members, overlay, grey.shape, scale), color)
    return page


def write_pages(
    folder: Path,
    mosaics: Mosaics,
    survey: Survey,
    images: NDArray[np.uint8],
    run: RunDirectory | None = None,
    limit: int = 100,
) -> Path:
    """Write folder/mosaics.html, the `limit` largest mosaics by falling size, and pictures/ of the 20 largest.

    The page is one file that needs no other. Returns its path. Raises UserError: see `predictions_of`; or there is no
    mosaic.
    """
    if not mosaics.count:
        raise UserError(f"{survey.source}: no two tiles were found to be neighbours; there is no mosaic to show")
    labels, predictions = labels_of(survey), None if run is None else predictions_of(run, survey)
    figures = []
    for mosaic in range(min(limit, mosaics.count)):
        shape = mosaics.tiles(mosaic).shape
        scale = int(np.clip(_LONGEST // max(shape[0] * images.shape[1], shape[1] * images.shape[2]), 1, 3))
        caption = describe(mosaics, mosaic, labels)
        if mosaic < _PICTURED:
            large = picture(mosaics, images, mosaic, labels, predictions, scale)
            write_picture(folder / "pictures" / f"mosaic{mosaic:04}.png", large)
        shown = picture(mosaics, images, mosaic, labels, predictions, min(scale, 2))
        figures.append(_figure(mosaic, caption, shown, _names(mosaics, mosaic)))
    path = folder / "mosaics.html"
    write_text(path, _page(mosaics, survey, run, figures))
    return path


def describe(mosaics: Mosaics, mosaic: int, labels: Overlay) -> str:
    """'mosaic 0: 96 tiles in 12 rows and 11 columns, 17 labelled (9 with salt)'."""
    members = np.flatnonzero(mosaics.mosaic == mosaic)
    rows, columns = mosaics.tiles(mosaic).shape
    labelled = members[labels.given[members]]
    salted = np.count_nonzero(labels.masks[labelled].any(axis=(1, 2)))
    return (
        f"mosaic {mosaic}: {len(members)} tiles in {rows} rows and {columns} columns, "
        f"{len(labelled)} labelled ({salted} with salt)"
    )


def _window(mosaics: Mosaics, tile: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """Where a tile of `size` lies in its mosaic, in pixels."""
    top, left = int(mosaics.row[tile]) * size[0], int(mosaics.column[tile]) * size[1]
    return slice(top, top + size[0]), slice(left, left + size[1])


def _joined(
    mosaics: Mosaics, members: NDArray[np.int64], overlay: Overlay, shape: tuple[int, ...], scale: int
) -> NDArray[np.uint8]:
    """The masks of a mosaic's tiles on one sheet of `shape`, enlarged."""
    sheet = np.zeros(shape, np.uint8)
    for tile in members[overlay.given[members]].tolist():
        mask = overlay.masks[tile]
        sheet[_window(mosaics, tile, (mask.shape[0], mask.shape[1]))] = mask
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def _lay_over(page: Picture, salt: NDArray[np.uint8], color: Color) -> None:
    """Tint a mask's pixels and draw its outline, inside of it, in place."""
    outline = salt > cv2.erode(salt, np.ones((2 * _LINE + 1, 2 * _LINE + 1), np.uint8))
    inside = salt > 0
    page[inside] = np.rint((1 - _TINT) * page[inside] + _TINT * np.array(color)).astype(np.uint8)
    page[outline] = color


def _names(mosaics: Mosaics, mosaic: int) -> list[list[str]]:
    return [[mosaics.ids[tile] if tile >= 0 else "" for tile in row] for row in mosaics.tiles(mosaic).tolist()]


def _figure(mosaic: int, caption: str, shown: Picture, names: Sequence[Sequence[str]]) -> str:
    encoded, data = cv2.imencode(".jpg", shown[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise ValueError(f"OpenCV cannot encode a picture of shape {shown.shape}")
    source = base64.b64encode(data.tobytes()).decode()
    height, width = shown.shape[:2]
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(name)}</td>" for name in row) + "</tr>" for row in names)
    return (
        f'<figure id="m{mosaic}"><figcaption>{html.escape(caption)}</figcaption>'
        f'<img loading="lazy" width="{width}" height="{height}" alt="{html.escape(caption)}" '
        f'src="data:image/jpeg;base64,{source}">'
        f"<details><summary>ids</summary><table>{rows}</table></details></figure>"
    )


def _page(mosaics: Mosaics, survey: Survey, run: RunDirectory | None, figures: Sequence[str]) -> str:
    sizes = mosaics.sizes()
    links = "".join(f'<a href="#m{at}">{at} ({sizes[at]})</a>' for at in range(len(figures)))
    legend = '<span class="label">labels orange (labelled tiles framed)</span>'
    if run is not None:
        name = html.escape(run.path.name)
        legend += f', <span class="prediction">masks of {name} green, out-of-fold on labelled tiles</span>'
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Mosaics</title><style>{_STYLE}</style>'
        f"<h1>Mosaics of {html.escape(str(survey.source))}</h1>"
        f"<p>{sizes.sum()} of {len(mosaics)} tiles in {mosaics.count} mosaics; the {len(figures)} largest, by size. "
        f"{legend}.</p><nav>{links}</nav>{''.join(figures)}</html>\n"
    )
