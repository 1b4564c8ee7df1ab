"""The table at the end of pseudo-label rounds."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from semisalt.pseudo.figures import RoundFigures, Taken
from semisalt.pseudo.guards import Guards
from semisalt.pseudo.rounds import Outcome
from semisalt.report.plain import plain_table


def rounds_table(outcome: Outcome) -> Group:
    """What each round took and gained, what the columns mean, and which round is the result."""
    first = outcome.rounds[0]
    scores = plain_table((), "Score at 0.5 over the out-of-fold tiles, with 95 % intervals over tiles")
    for name in ("round", "score", "minus round 0", "minus the one before", "min"):
        scores.add_column(name, justify="right", no_wrap=True)
    taken = plain_table((), "What was taken, all folds together")
    for name in ("round", "empty", "salt", "of", "coverage", "prior", "foreground", "true"):
        taken.add_column(name, justify="right", no_wrap=True)
    seen = plain_table((), "What its models see in the out-of-fold tiles (in brackets: the labels)")
    for name in ("round", "salt", "empty tiles", "agree"):
        seen.add_column(name, justify="right", no_wrap=True)
    for figures in outcome.rounds:
        scores.add_row(*_score_row(figures))
        seen.add_row(str(figures.round), *_seen_row(figures.guards))
        if figures.taken:
            taken.add_row(str(figures.round), *_taken_row(figures.taken))
    inflated = [Text("INFLATED: pooled labels; the scores marked so know the tiles they are made on", style="bold red")]
    return Group(
        *(inflated if any(figures.inflated for figures in outcome.rounds) else []),
        scores,
        *([taken] if len(outcome.rounds) > 1 else []),
        seen,
        Text(),
        _notes(),
        Text(f"\n{outcome.ended[0].upper()}{outcome.ended[1:]}."),
        Text(
            f"Result: round {outcome.best}, {outcome.rounds[outcome.best].run}{_chosen(outcome, first)}", style="bold"
        ),
    )


def _chosen(outcome: Outcome, first: RoundFigures) -> str:
    if outcome.best == first.round:
        return ": no round beat it"
    gain = outcome.rounds[outcome.best].minus_first
    assert gain is not None  # noqa: S101  # the best round is not the first
    mark = " (inflated)" if outcome.rounds[outcome.best].inflated else ""
    return f", {gain.signed} over round 0{mark}"


def _score_row(figures: RoundFigures) -> tuple[str, ...]:
    # On a line of its own: beside the score it would be cut off on a narrow terminal.
    mark = "\n(inflated)" if figures.inflated else ""
    differences = (figures.minus_first, figures.minus_before)
    return (
        str(figures.round),
        f"{figures.score}{mark}",
        *("" if difference is None else difference.signed for difference in differences),
        f"{figures.seconds / 60:.1f}",
    )


def _taken_row(taken: Taken) -> tuple[str, ...]:
    return (
        f"{taken.empty:,}",
        f"{taken.salt:,}",
        f"{taken.candidates:,}",
        f"{taken.coverage:.1%}",
        f"{taken.prior:.1%}",
        f"{taken.foreground:.1%}",
        "" if taken.truth is None else f"{taken.truth:.3f}",
    )


def _seen_row(guards: Guards) -> tuple[str, ...]:
    return (
        f"{guards.foreground:.1%} ({guards.prior_foreground:.1%})",
        f"{guards.empty_share:.1%} ({guards.prior_empty_share:.1%})",
        "" if guards.agreement is None else f"{guards.agreement:.2f}",
    )


def _notes() -> Table:
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True)
    notes.add_column()
    notes.add_row("empty, salt", "taken tiles without and with salt, of so many candidates")
    notes.add_row(
        "coverage",
        "mean share of salt of the taken tiles; prior: of the labelled ones, less empty ones by pseudo.empties",
    )
    notes.add_row("foreground", "share of salt that the round before saw in all candidates")
    notes.add_row("true", "mean precision of the taken labels where the truth is known; it is used for nothing else")
    notes.add_row("agree", "mean IoU with the round before's masks of the same tiles")
    notes.add_row("minus …", "paired over tiles; the best of several rounds flatters itself a little")
    return notes
