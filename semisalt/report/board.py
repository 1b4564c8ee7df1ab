"""What TensorBoard gets at the end of a fold and of a run.

Each writes into a folder of its own below the run's tensorboard/, which is emptied first: a resumed or repeated end
replaces what it wrote before.

    foldK/         the training's scalars (see training/log)
    foldK/tiles/   pictures of validation tiles
    curve/         score over threshold
    result/        the run's row in the HParams tab
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import FileWriter, SummaryWriter, summary

from semisalt.data.tiles import TileSet
from semisalt.inference.evaluate import operating_point
from semisalt.metrics import iou, precision
from semisalt.report.figures import Picture, curve, outlined, sheet
from semisalt.report.maps import worst_first
from semisalt.run import RunDirectory

SHOWN = 12  # tiles of each kind


def log_fold(run: RunDirectory, fold: int, tiles: TileSet, probabilities: NDArray[np.uint8]) -> None:
    """Pictures of the fold's 12 worst and 12 random validation tiles at 0.5, with both outlines and their scores.

    Args:
        run: seeds the random choice, which depends on the tiles' number alone: it stays the same from run to run.
        fold: the fold that `tiles` are validation of.
        tiles: N labelled tiles.
        probabilities: uint8 [N, H, W].

    Raises:
        ValueError: tiles without masks, or not as many probability maps.
    """
    if tiles.masks is None or probabilities.shape != tiles.images.shape:
        raise ValueError(f"need labelled tiles and their probabilities; got shape {probabilities.shape}")
    masks = np.asarray(probabilities > 127, np.uint8)
    scores, shares = precision(masks, tiles.masks), iou(masks, tiles.masks)
    random = np.random.default_rng(run.config.seed).permutation(len(tiles))[:SHOWN]
    mark = "  INFLATED" if run.inflated else ""
    with fresh_writer(run.path / "tensorboard" / f"fold{fold}" / "tiles") as writer:
        for kind, chosen in {"worst": worst_first(masks, tiles.masks)[:SHOWN], "random": random}.items():
            for place, index in enumerate(chosen):
                picture = outlined(tiles.images[index], tiles.masks[index], masks[index])
                caption = f"{tiles.ids[index]}  score {scores[index]:.1f}  IoU {shares[index]:.2f}{mark}"
                writer.add_image(f"{kind}/{place + 1:02}", sheet([picture], [caption], 1), 0, dataformats="HWC")


def log_run(run: RunDirectory) -> None:
    """The curve of score over threshold (step: 100 · threshold) as scalars and as a picture, and a row for HParams.

    The row holds the flattened configuration, the data's fingerprint, how many folds are finished, and the scores
    at_half, cross_fitted and chosen. Raises UserError while the run has no results.
    """
    results = run.results
    # A score of tiles that were learned from has a name of its own, by which it cannot be taken for another.
    mark = "inflated/" if "inflated" in results else ""
    with fresh_writer(run.path / "tensorboard" / "curve") as writer:
        for threshold, score in zip(results["curve"]["thresholds"], results["curve"]["precision"], strict=True):
            writer.add_scalar(f"{mark}precision_over_threshold", score, round(100 * threshold))
        writer.add_image("threshold", threshold_curve(run), 0, dataformats="HWC")
    row = {
        **flatten(run.config.model_dump(mode="json")),
        "data.fingerprint": run.provenance["data"][:12],
        "folds_finished": len(results["folds"]),
    }
    metrics = {
        "at_half": results["at_half"]["precision"]["value"],
        "cross_fitted": results["cross_fitted"]["value"],
        "chosen": results["chosen"]["precision"]["value"],
    }
    with fresh_writer(run.path / "tensorboard" / "result") as writer:
        add_row(writer, row, {mark + name: value for name, value in metrics.items()})


def threshold_curve(run: RunDirectory) -> Picture:
    """Score over threshold at the chosen sizes, with the chosen point and the plain 0.5 marked."""
    results, best = run.results, operating_point(run)
    chosen = f"chosen: threshold {best.threshold:.2f}, islands < {best.min_salt}, holes < {best.min_hole} px dropped"
    return curve(
        np.array(results["curve"]["thresholds"]),
        np.array(results["curve"]["precision"]),
        {
            chosen: (best.threshold, results["chosen"]["precision"]["value"]),
            "threshold 0.50, nothing dropped": (0.5, results["at_half"]["precision"]["value"]),
        },
        name=f"{'INFLATED ' if 'inflated' in results else ''}mean precision over the threshold, at the chosen sizes",
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float | str]:
    """Dotted keys and scalar values, as the HParams tab takes them.

    Lists become text, true and false too (a column of 'auto' and false would otherwise mix types); None is left out.
    """
    row: dict[str, float | str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            row |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, bool):
            row[prefix + key] = str(value).lower()
        elif isinstance(value, int | float | str):
            row[prefix + key] = value
        elif value is not None:
            row[prefix + key] = ", ".join(map(str, value))
    return row


def add_row(writer: SummaryWriter, row: dict[str, float | str], metrics: dict[str, float]) -> None:
    """A row of the HParams tab, the metrics also as scalars: one a writer, since TensorBoard reads a run's last row."""
    # SummaryWriter.add_hparams also writes a list of the columns, and TensorBoard takes the first run's list for all
    # runs: keys that only others have would not be shown. Without any list it gathers the columns from all runs.
    build: Callable[..., tuple[Any, Any, Any]] = summary.hparams  # has no annotations
    _, start, end = build(row, metrics)
    file = cast(FileWriter, writer.file_writer)
    file.add_summary(start)
    file.add_summary(end)
    for name, value in metrics.items():
        writer.add_scalar(name, value, 0)


@contextmanager
def fresh_writer(folder: Path) -> Iterator[SummaryWriter]:
    """A writer into `folder`, emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        yield writer
