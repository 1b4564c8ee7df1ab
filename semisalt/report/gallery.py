"""What a round took and what it refused, by confidence: to be looked at before the labels are trusted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.outputs import bare_tiles
from semisalt.inference.predict import vote
from semisalt.pseudo.labelling import Task, label_directory
from semisalt.pseudo.labels import Provenance, verdicts_of
from semisalt.pseudo.selection import TAKEN
from semisalt.report.figures import Picture, heat, outlined, sheet, stack
from semisalt.report.maps import write_picture
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide

COLUMNS = 4
SHOWN = 8  # tiles of each kind: two rows of taken ones
_SIDE = 200  # px that a tile's longer side is brought near to
_SHORT = {"decided": "d", "confidence": "c", "agreement": "m", "stability": "s"}
_LETTERS = "d decided pixels, c confidence, m agreement with its mirror image, s stability"


@dataclass(frozen=True, eq=False)
class Chosen:
    """Tiles of one kind that are shown together: a heading and their positions among the candidates."""

    heading: str
    positions: NDArray[np.int64]


def write_gallery(run: RunDirectory, fold: int, survey: Survey) -> Path:
    """Write RUN/gallery-foldK.png of a round's fold; returns its path.

    The most and the least confident of the taken tiles, with and without salt, then for each reason the refused tiles
    from the most to the least confident one. Each tile stands beside its probabilities, outlined by its hard label.
    Blank tiles are left out.

    Args:
        run: a round.
        fold: one of its folds.
        survey: the tiles that the run was made from.

    Raises:
        UserError: the fold has no labels yet, or the probabilities that they were made from are gone or were replaced.
    """
    folder = label_directory(run, fold)
    if not folder.complete():
        raise UserError(f"{run.path}: fold {fold} has no labels; go on with {run.going_on}")
    provenance, rows = folder.provenance(), verdicts_of(folder)
    config = run.config
    source = _source(run, provenance)
    maps = source.maps_of(config.data.unlabelled_limit, config.seed)
    task = Task(source, fold, _voters(provenance), bare_tiles(survey, config), divide(survey, config), maps)
    tiles = task.candidates
    if [row["id"] for row in rows] != list(tiles.ids):
        raise UserError(f"{folder.tiles} is of other tiles than the survey's")
    chosen = choose(rows)
    shown = np.unique(np.concatenate([part.positions for part in chosen])).astype(np.int64)
    probabilities = dict(zip(shown.tolist(), _probabilities(run, task, shown), strict=True))
    _check(rows, probabilities, provenance)
    title = f"{run.path.name}, fold {fold}"
    headings = [f"{title}: {part.heading}" for part in chosen]
    headings[0] += f"   ({_LETTERS})"
    parts = [
        _sheet(heading, part.positions.tolist(), tiles, rows, probabilities, provenance.threshold)
        for heading, part in zip(headings, chosen, strict=True)
    ]
    path = run.path / f"gallery-fold{fold}.png"
    write_picture(path, stack(parts))
    return path


def choose(rows: Sequence[Mapping[str, str]]) -> list[Chosen]:
    """What is shown of a fold's candidates (rows of tiles.csv), kind by kind.

    Confidence is the order in which tiles are selected: by the share of decided pixels, then by the mean of
    max(p, 1 − p). Of the taken tiles the two ends are shown, of the refused ones evenly many from end to end.
    """
    confidence = [(float(row["decided"]), float(row["confidence"])) for row in rows]
    order = sorted(range(len(rows)), key=lambda at: confidence[at], reverse=True)
    kinds: list[Chosen] = []
    for kind, salt in (("with salt", True), ("without salt", False)):
        mine = [at for at in order if rows[at]["verdict"] == TAKEN and (float(rows[at]["coverage"]) > 0) is salt]
        if len(mine) <= SHOWN:
            ends = {"": mine}
        else:
            ends = {", most confident": mine[: SHOWN // 2], ", least confident": mine[-SHOWN // 2 :]}
        kinds += [
            Chosen(f"taken {kind} ({len(mine)}){end}", np.array(part, np.int64)) for end, part in ends.items() if part
        ]
    for reason, count in verdict_counts(rows).items():
        if reason in (TAKEN, "blank"):
            continue
        mine = [at for at in order if rows[at]["verdict"] == reason]
        spread = np.unique(np.linspace(0, count - 1, min(count, SHOWN)).round().astype(np.int64))
        heading = f"refused, {reason} ({count})" + (", from most to least confident" if count > 1 else "")
        kinds.append(Chosen(heading, np.array(mine, np.int64)[spread]))
    return kinds


def verdict_counts(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """How many candidates have each verdict, taken ones first, then by falling number."""
    counts = Counter(row["verdict"] for row in rows)
    return {TAKEN: counts.pop(TAKEN, 0), **dict(counts.most_common())}


def verdict_table(folds: Mapping[int, Sequence[Mapping[str, str]]]) -> Table:
    """For each verdict and fold how many of the candidates have it: with salt and without."""
    table = Table(box=box.SIMPLE_HEAD, title="\nCandidates with salt + without, by fold", title_justify="left")
    table.title_style = ""
    table.add_column("verdict", no_wrap=True)
    for fold in folds:
        table.add_column(f"fold {fold}", justify="right", no_wrap=True)
    counts = {fold: verdict_counts(rows) for fold, rows in folds.items()}
    for verdict in dict.fromkeys(name for each in counts.values() for name in each):
        cells = []
        for rows in folds.values():
            salt = [float(row["coverage"]) > 0 for row in rows if row["verdict"] == verdict]
            cells.append(f"{sum(salt):,} + {len(salt) - sum(salt):,}")
        table.add_row(verdict, *cells)
    return table


def _source(run: RunDirectory, provenance: Provenance) -> RunDirectory:
    """The run that gave the labels: where it was, or beside this one where both have moved."""
    places = [Path(provenance.source), run.path.parent / Path(provenance.source).name]
    for place in places:
        if (place / "config.yaml").exists():
            return RunDirectory(place)
    raise UserError(f"{places[0]}, whose probabilities the labels were made from, is not there any more")


def _voters(provenance: Provenance) -> tuple[int, ...]:
    """The folds that voted, from the names of their weights' files (foldK/…)."""
    return tuple(sorted({int(Path(name).parts[0].removeprefix("fold")) for name in provenance.models}))


def _probabilities(run: RunDirectory, task: Task, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The voters' mean probabilities of the candidates at rising `positions`, uint8 [n, H, W]."""
    out, start = [], 0
    for tiles, files in task.parts:
        mine = positions[(positions >= start) & (positions < start + len(tiles))] - start
        start += len(tiles)
        maps = []
        for file in files:
            kept = np.load(file, mmap_mode="r") if file.exists() else None
            if kept is None or kept.shape != tiles.images.shape:
                raise UserError(
                    f"{file} is gone, or is of other tiles now; {task.source.path} has to predict them again: remove "
                    f"the labels of {run.path} and go on with {run.going_on}"
                )
            maps.append(kept[mine])
        out.append(vote(maps, [1 / len(maps)] * len(maps)))
    return np.concatenate(out)


def _check(
    rows: Sequence[Mapping[str, str]], probabilities: Mapping[int, NDArray[np.uint8]], provenance: Provenance
) -> None:
    """The probabilities must give the coverages that the labels were selected by."""
    for at, values in probabilities.items():
        if f"{_mask(values, provenance.threshold).mean():.4f}" != rows[at]["coverage"]:
            raise UserError(
                f"{provenance.source}: the probabilities of tile {rows[at]['id']} are not those that it was labelled "
                "by: the run was predicted anew, with other weights"
            )


def _mask(probability: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    return np.asarray(probability > threshold * 255, np.uint8)


def _sheet(
    heading: str,
    positions: Sequence[int],
    tiles: TileSet,
    rows: Sequence[Mapping[str, str]],
    probabilities: Mapping[int, NDArray[np.uint8]],
    threshold: float,
) -> Picture:
    scale = max(1, round(_SIDE / max(tiles.shape)))
    pictures = []
    for at in positions:
        picture = outlined(tiles.images[at], None, _mask(probabilities[at], threshold), scale)
        pictures.append(np.hstack([picture, heat(probabilities[at], scale)]))
    captions = [caption(rows[at]) for at in positions]
    return sheet(pictures, captions, COLUMNS, title=heading, legend=("prediction",))


def caption(row: Mapping[str, str]) -> str:
    """A tile's id, its share of salt, and those of its measures that were taken."""
    measures = [f"{letter}{float(row[name]):.3f}" for name, letter in _SHORT.items() if row[name] != "nan"]
    return "  ".join([row["id"], f"salt {float(row['coverage']):.0%}", " ".join(measures).replace("0.", ".")])
