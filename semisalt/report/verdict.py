"""The verdict on mosaics, for the terminal and for TensorBoard."""

import shutil

from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter

from semisalt.mosaics.evaluate import ALL, BLENDED, RuleVerdict, Verdict
from semisalt.mosaics.rules import RULES
from semisalt.report.plain import plain_table
from semisalt.run import RunDirectory


def verdict_table(verdict: Verdict) -> Group:
    """What each rule did, at 80 columns: how many tiles it touched, how often it was right, what that is worth."""
    head = (
        f"{verdict.run}: {verdict.tiles} out-of-fold tiles, {verdict.placed} of them in a mosaic\n"
        f"score without mosaics: {verdict.alone}"
    )
    if verdict.inflated:
        head += f"\nINFLATED: {verdict.inflated}"
    table = plain_table((), title="Each rule on the tiles that it touches, and its effect on the score of all")
    table.add_column("rule", no_wrap=True)
    for name in ("tiles", "+", "=", "−"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from→to", no_wrap=True)
    table.add_column("change of all", no_wrap=True)
    table.add_column("bare", justify="right", no_wrap=True)
    for rule in verdict.rules:
        table.add_row(*_row(rule), end_section=rule.name in (list(RULES)[-1], BLENDED))
    return Group(Text(head, style="bold"), table, Text(), _notes(verdict))


def log_verdict(run: RunDirectory, verdict: Verdict) -> None:
    """Write the verdict as scalars below the run's tensorboard/mosaics: score, change (with its ends) and counts."""
    folder = run.path / "tensorboard" / "mosaics"
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        mark = "inflated/" if verdict.inflated else ""
        writer.add_scalar(f"{mark}mosaics/score/alone", verdict.alone.value, 0)
        for rule in verdict.rules:
            name = rule.name.replace(" ", "_").replace(",", "")
            writer.add_scalar(f"{mark}mosaics/score/{name}", rule.score.value, 0)
            for end in ("value", "low", "high"):
                writer.add_scalar(f"mosaics/change_{end}/{name}", getattr(rule.change, end), 0)
            for count in ("touched", "better", "worse"):
                writer.add_scalar(f"mosaics/{count}/{name}", getattr(rule, count), 0)


def _row(rule: RuleVerdict) -> tuple[str, ...]:
    moved = f"{_short(rule.before)}→{_short(rule.after)}" if rule.touched else ""
    change = str(rule.change) if rule.touched else ""
    unlabelled = "" if rule.unlabelled is None else str(rule.unlabelled)
    return rule.name, *map(str, (rule.touched, rule.better, rule.equal, rule.worse)), moved, change, unlabelled


def _short(score: float) -> str:
    return f"{score:.2f}".replace("0.", ".", 1) if score < 0.995 else "1.0"


def _notes(verdict: Verdict) -> Table:
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True)
    notes.add_column()
    notes.add_row("score", "mean precision at 0.5, nothing dropped: no threshold was chosen on any tile")
    notes.add_row("+ = −", "how many of the touched tiles became better, stayed as good, became worse")
    notes.add_row("from→to", "mean score of the touched tiles, without the rule and with it")
    notes.add_row("change", "of the score of all out-of-fold tiles, paired, with its 95 % interval")
    notes.add_row("bare", "unlabelled tiles that it would touch, where that takes no prediction to know")
    notes.add_row("labels", "a tile is corrected by labels of its own fold's training tiles alone")
    notes.add_row(ALL, "predicted joined, then corrected by the rules above it")
    notes.add_row(
        "leak",
        f"{verdict.crossing} of {verdict.pairs} pairs of labelled neighbours lie in different folds",
    )
    return notes
