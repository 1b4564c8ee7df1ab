"""Pseudo-label rounds in TensorBoard: scores, gains and guards over the round's number."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from semisalt.pseudo.figures import RoundFigures
from semisalt.pseudo.rounds import Outcome
from semisalt.report.board import fresh_writer


def log_rounds(path: Path, outcome: Outcome) -> None:
    """Write PATH/tensorboard/rounds anew, a step a round.

    rounds/score, rounds/minus_first and rounds/minus_before with their ends of the interval, guards/… (see
    `pseudo.guards.Guards`) and taken/… (see `pseudo.figures.Taken`). Scores that know their tiles are named inflated/….
    """
    with fresh_writer(path / "tensorboard" / "rounds") as writer:
        for figures in outcome.rounds:
            for name, value in _scalars(figures):
                writer.add_scalar(name, value, figures.round)


def _scalars(figures: RoundFigures) -> Iterator[tuple[str, float]]:
    mark = "inflated/" if figures.inflated else ""
    intervals = {"score": figures.score, "minus_first": figures.minus_first, "minus_before": figures.minus_before}
    for name, interval in intervals.items():
        if interval is not None:
            yield from ((f"{mark}rounds/{name}/{end}", value) for end, value in asdict(interval).items())
    groups = {"guards": asdict(figures.guards), "taken": asdict(figures.taken) if figures.taken else {}}
    for group, values in groups.items():
        yield from ((f"{group}/{name}", value) for name, value in values.items() if value is not None)
