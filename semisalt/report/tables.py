"""Tables for the terminal; plain and legible at 80 columns, piped or not."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from semisalt.config import Config
from semisalt.data.check import TINY, Description
from semisalt.inference.threshold import Operating
from semisalt.metrics import Interval
from semisalt.report.health import health_tables
from semisalt.report.plain import plain_table
from semisalt.run import RunDirectory

WAYS = ("last", "predictions", "weights")  # of combining a fold's snapshots
_BAR = 40  # characters of the longest bar
_NAMED = 5  # ids that are named


def results_table(run: RunDirectory) -> Group:
    """A run's figures: fold by fold, overall, and what each of them is worth.

    Raises UserError while no fold is finished.
    """
    results, config = run.results, run.config
    finished, wanted = len(results["folds"]), config.data.folds
    head = f"{run.path.name}: {finished} of {wanted} folds finished, {results['tiles']} tiles scored"
    if config.data.label_fraction < 1:
        head += f", {config.data.label_fraction:.0%} of the labels used"
    inflated = [Text(f"INFLATED: {results['inflated']}", style="bold red")] if "inflated" in results else []
    return Group(
        Text(head, style="bold"),
        *inflated,
        _fold_table(results),
        _overall_table(results),
        *health_tables(results),
        Text(),
        _notes(config, results),
    )


def description_tables(description: Description) -> Group:
    """What a survey holds: counts, oddities and the histogram of coverage."""
    return Group(_counts(description), _histogram(description))


def _fold_table(results: Mapping[str, Any]) -> Table:
    table = plain_table(
        ("fold", "tiles", "epochs", "min"),
        title="Score at 0.5 and its interval, by fold and way of combining snapshots",
    )
    for way in WAYS:
        table.add_column(f"{way} *" if way == results["combine"] else way, no_wrap=True)
    for fold, result in results["folds"].items():
        scores = [_short(Interval(**result["precision_at_half"][way])) for way in WAYS]
        minutes = f"{result['seconds'] / 60:.0f}" if result["seconds"] >= 600 else f"{result['seconds'] / 60:.1f}"
        table.add_row(fold, str(result["tiles"]), str(result["epochs"]), minutes, *scores)
    return table


def _short(interval: Interval) -> str:
    """'.812 .801–.823': three of them fit a line."""
    return str(interval).replace("[", "").replace("]", "").replace(", ", "–")


def _overall_table(results: Mapping[str, Any]) -> Table:
    table = plain_table((), title="All out-of-fold tiles, combined as marked *")
    table.add_column("", no_wrap=True)
    table.add_column("score", no_wrap=True)
    for name in ("mean\nIoU", "Dice", "false\nsalt", "missed\nsalt"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("at 0.5", *_scores(results["at_half"]))
    table.add_row("cross-fitted", str(Interval(**results["cross_fitted"])), "", "", "", "")
    table.add_row("chosen", *_scores(results["chosen"]))
    return table


def _scores(scores: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(Interval(**scores["precision"])),
        f"{scores['mean_iou']:.3f}",
        f"{scores['dice']:.3f}",
        f"{scores['false_salt_share']:.1%}",
        f"{scores['missed_salt_share']:.1%}",
    )


def _notes(config: Config, results: Mapping[str, Any]) -> Table:
    """What each figure is, and which of them flatter."""
    point = Operating(**results["operating"])
    others = "the other folds'" if len(results["folds"]) > 1 else "the other half of the fold's"
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True)
    notes.add_column()
    notes.add_row("score", "the competition's mean precision over IoU .50 … .95, with its 95 % interval over tiles")
    notes.add_row("false salt", "share of the empty tiles that were given salt")
    notes.add_row("missed salt", "share of the tiles with salt that were predicted empty")
    notes.add_row("at 0.5", "salt where p > 0.50, nothing dropped")
    notes.add_row(
        "cross-fitted",
        f"each tile at the operating point chosen on {others} tiles: what to quote for predictions as they are made",
    )
    notes.add_row(
        "chosen",
        f"{point.words}, as predictions are made. Chosen on the tiles it is scored on: flattering",
    )
    notes.add_row("weights", _selection(config))
    if "inflated" in results:
        notes.add_row("INFLATED", f"none of these scores is of unseen tiles: {results['inflated']}")
    return notes


def _selection(config: Config) -> str:
    """Whether the validation tiles had a say in the weights that they score."""
    says = []
    if config.snapshots.select == "best":
        says.append("the epochs that did best on the validation tiles (snapshots.select: best)")
    if config.training.patience is not None:
        says.append("training stopped by the validation score (training.patience)")
    if not says:
        return "the last epochs of a fixed number: chosen without a look at the tiles that they are scored on"
    return f"{', and '.join(says)}: all figures flatter a little"


def _counts(description: Description) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    salted = description.labelled - description.empty
    depths = description.depth_range
    rows = {
        "source": description.source,
        "fingerprint": description.fingerprint,
        "tiles": f"{description.labelled} labelled, {description.unlabelled} unlabelled, "
        f"{description.height} × {description.width} pixels",
        "depth": "not given" if depths is None else f"{depths[0]:g} to {depths[1]:g}",
        "blank": f"{description.blank_labelled} labelled, {description.blank_unlabelled} unlabelled (no signal at all)",
        "salt on blank": _named(description.blank_with_salt),
        "duplicates": _named([" = ".join(group) for group in description.duplicates], "groups"),
        "masks": f"{description.empty} empty, {salted} with salt; of these {description.tiny} tiny "
        f"(1 to {TINY} px), {description.vertical} vertical, {description.full} full",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _histogram(description: Description) -> Table:
    bins = [("none", description.empty)]
    for tenth, count in enumerate(description.coverage_histogram):
        bins.append((f"to {(tenth + 1) / 10:.0%}", count))
    most = max(count for _, count in bins) or 1
    table = plain_table(("salt", "tiles"), title="Coverage of the labelled tiles")
    table.add_column("", no_wrap=True)
    for name, count in bins:
        # A bin that holds anything shows it.
        table.add_row(name, str(count), "█" * (round(_BAR * count / most) or min(count, 1)))
    return table


def _named(entries: Sequence[str], unit: str = "") -> str:
    if not entries:
        return "none"
    more = f" … and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return f"{len(entries)} {unit}".strip() + ": " + ", ".join(entries[:_NAMED]) + more
