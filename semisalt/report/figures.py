"""Pictures as arrays: outlined tiles, contact sheets, curves. Plain functions, uint8 RGB `[h, w, 3]` out.

The colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

TRUTH: Color = (240, 170, 0)
PREDICTION: Color = (86, 190, 243)
PAGE: Color = (255, 255, 255)
INK: Color = (45, 45, 45)
FAINT: Color = (222, 222, 222)
MARKS: tuple[Color, ...] = ((0, 114, 178), (213, 94, 0), (0, 158, 115))

GAP = 10  # px between tiles
LINE = 21  # px a line of text
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SIZE = 0.5  # of OpenCV's font: capitals some 11 px high


def outlined(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8] | None,
    prediction: NDArray[np.uint8] | None,
    scale: int = 3,
) -> Picture:
    """A tile `[H, W]`, enlarged, with the outlines of its masks (0 or 1); `[H · scale + 2 t, W · scale + 2 t, 3]`.

    The truth's outline runs inside of its mask and the prediction's outside of its own, so that from scale 2 on
    neither hides the other where both agree or are a pixel apart. Lines are t = max(1, scale // 2) wide; a frame of
    that width leaves room for them around salt that reaches the tile's edge.
    """
    width = max(1, scale // 2)
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    framed = cv2.copyMakeBorder(large, width, width, width, width, cv2.BORDER_REPLICATE)
    picture = np.asarray(cv2.cvtColor(framed, cv2.COLOR_GRAY2RGB), np.uint8)
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    if truth is not None:
        salt = _enlarged(truth, scale, width)
        picture[(salt > cv2.erode(salt, kernel))] = TRUTH
    if prediction is not None:
        salt = _enlarged(prediction, scale, width)
        picture[(salt < cv2.dilate(salt, kernel))] = PREDICTION
    return picture


def heat(probability: NDArray[np.uint8], scale: int = 3) -> Picture:
    """A probability map `[H, W]` (uint8, p = value / 255) in grey, of the size of `outlined`: 0 black, 1 white."""
    width = max(1, scale // 2)
    large = cv2.resize(probability, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    framed = cv2.copyMakeBorder(large, width, width, width, width, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(framed, cv2.COLOR_GRAY2RGB), np.uint8)


def sheet(
    tiles: Sequence[Picture],
    captions: Sequence[str],
    columns: int,
    *,
    title: str = "",
    legend: Sequence[str] = ("truth", "prediction"),
) -> Picture:
    """A contact sheet of pictures of one size, row by row, each over its caption.

    Args:
        tiles: `[h, w, 3]` each; none gives a sheet that says so.
        captions: one a tile; shortened where wider than the tile, letters beyond ASCII become '?'.
        columns: tiles a row; the sheet is as wide as so many even where there are fewer.
        title: a heading above.
        legend: which outlines to explain beside the heading, of 'truth' and 'prediction'.

    Raises:
        ValueError: another number of captions than of tiles, or tiles of different sizes.
    """
    if len(tiles) != len(captions) or len({tile.shape for tile in tiles}) > 1 or columns < 1:
        raise ValueError("a sheet needs tiles of one size, a caption for each, and one column or more")
    height, width = tiles[0].shape[:2] if tiles else (0, 200)
    top = GAP + (LINE + GAP // 2 if title or legend else 0)
    rows = max(1, -(-len(tiles) // columns))
    page = _page(top + rows * (height + LINE + GAP), GAP + columns * (width + GAP))
    room = _legend(page, legend)
    _write(page, title, (GAP, GAP + 12), room - 2 * GAP)
    if not tiles:
        _write(page, "no tiles", (GAP, top + 12), width)
    for index, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(index, columns)
        y, x = top + row * (height + LINE + GAP), GAP + column * (width + GAP)
        page[y : y + height, x : x + width] = tile
        _write(page, caption, (x, y + height + 16), width)
    return page


def stack(pages: Sequence[Picture]) -> Picture:
    """Pictures one under the other; narrower ones are filled up with white at the right."""
    width = max(page.shape[1] for page in pages)
    filled = [_page(page.shape[0], width) for page in pages]
    for whole, page in zip(filled, pages, strict=True):
        whole[:, : page.shape[1]] = page
    return np.vstack(filled)


def curve(
    thresholds: NDArray[np.float64],
    scores: NDArray[np.float64],
    marks: Mapping[str, tuple[float, float]],
    name: str = "mean precision",
    size: tuple[int, int] = (400, 640),
) -> Picture:
    """The score over the threshold (`[T]` each), with marked points; the names stand above the plot.

    Args:
        thresholds, scores: rising thresholds and their scores.
        marks: name → (threshold, score), at most three.
        name: what the line is.
        size: height and width of the picture in pixels.

    Raises:
        ValueError: no thresholds, not as many scores, or too many marks.
    """
    if len(thresholds) == 0 or len(thresholds) != len(scores) or len(marks) > len(MARKS):
        raise ValueError(f"{len(thresholds)} thresholds, {len(scores)} scores, {len(marks)} marks: not drawable")
    page = _page(*size)
    top = GAP + (1 + len(marks)) * LINE + GAP
    frame = (62, top, size[1] - 2 * GAP, size[0] - 58)  # left, top, right, bottom
    points = np.array([*zip(thresholds, scores, strict=True), *marks.values()])
    x_range, y_range = _padded(points[:, 0], 0.02), _padded(points[:, 1], 0.08)
    _axes(page, frame, x_range, y_range)
    line = [_place(x, y, frame, x_range, y_range) for x, y in zip(thresholds, scores, strict=True)]
    cv2.polylines(page, [np.array(line, np.int32)], isClosed=False, color=INK, thickness=2, lineType=cv2.LINE_AA)
    cv2.line(page, (frame[0], GAP + 7), (frame[0] + 14, GAP + 7), INK, 2)
    _write(page, name, (frame[0] + 22, GAP + 12), frame[2] - frame[0] - 22)
    for row, ((mark, (x, y)), color) in enumerate(zip(marks.items(), MARKS, strict=False), start=1):
        cv2.circle(page, _place(x, y, frame, x_range, y_range), 6, color, -1, cv2.LINE_AA)
        baseline = GAP + 12 + row * LINE
        cv2.circle(page, (frame[0] + 7, baseline - 5), 6, color, -1, cv2.LINE_AA)
        _write(page, f"{mark}: {y:.4f}", (frame[0] + 22, baseline), frame[2] - frame[0] - 22)
    return page


def _enlarged(mask: NDArray[np.uint8], scale: int, frame: int) -> NDArray[np.uint8]:
    large = mask.astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    return np.pad(large, frame)


def _page(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAGE, np.uint8)


def _legend(page: Picture, names: Sequence[str]) -> int:
    """Explain the outlines at the right of the heading; returns where it begins."""
    x: int = page.shape[1] - GAP
    for name in reversed(names):
        x -= _width(name)
        _write(page, name, (x, GAP + 12), _width(name))
        cv2.rectangle(page, (x - 28, GAP + 5), (x - 8, GAP + 8), {"truth": TRUTH, "prediction": PREDICTION}[name], -1)
        x -= 28 + 2 * GAP
    return x


def _axes(
    page: Picture, frame: tuple[int, int, int, int], x_range: tuple[float, float], y_range: tuple[float, float]
) -> None:
    left, top, right, bottom = frame
    for value, label in _ticks(*x_range):
        x, _ = _place(value, y_range[0], frame, x_range, y_range)
        cv2.line(page, (x, top), (x, bottom), FAINT, 1)
        _write(page, label, (x - _width(label) // 2, bottom + LINE), page.shape[1])
    for value, label in _ticks(*y_range):
        _, y = _place(x_range[0], value, frame, x_range, y_range)
        cv2.line(page, (left, y), (right, y), FAINT, 1)
        _write(page, label, (left - 8 - _width(label), y + 4), page.shape[1])
    cv2.line(page, (left, top), (left, bottom), INK, 1)
    cv2.line(page, (left, bottom), (right, bottom), INK, 1)
    title = "threshold on the probability"
    _write(page, title, ((left + right - _width(title)) // 2, bottom + 2 * LINE + 4), page.shape[1])


def _place(
    x: float,
    y: float,
    frame: tuple[int, int, int, int],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> tuple[int, int]:
    """The pixel (column, row) of a point."""
    left, top, right, bottom = frame
    column = left + (x - x_range[0]) / (x_range[1] - x_range[0]) * (right - left)
    row = bottom - (y - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)
    return round(column), round(row)


def _padded(values: NDArray[np.float64], share: float) -> tuple[float, float]:
    """The values' range and some room on either side; never empty."""
    low, high = float(values.min()), float(values.max())
    room = share * (high - low) if high > low else 0.01
    return low - room, high + room


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round values in a range, at most nine, with labels of as many digits as they need."""
    least = (high - low) / 8
    power = int(np.floor(np.log10(least)))
    step = next(m * 10.0**power for m in (1, 2, 5, 10) if m * 10.0**power >= least)
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [(k * step, f"{k * step:.{digits}f}") for k in range(first, last + 1)]


def _write(page: Picture, text: str, at: tuple[int, int], room: int) -> None:
    """Write from the baseline's left end, at most `room` pixels wide."""
    shown = _plain(text)
    if _width(shown) > room:
        while shown and _width(shown + "..") > room:
            shown = shown[:-1]
        shown = f"{shown}.." if shown else ""
    if shown:
        cv2.putText(page, shown, at, _FONT, _SIZE, INK, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(_plain(text), _FONT, _SIZE, 1)
    return int(width)


def _plain(text: str) -> str:
    # OpenCV 4's fonts know ASCII only.
    return text.encode("ascii", "replace").decode()
