"""A trial's row in the HParams tab: `tensorboard --logdir runs/STUDY` shows all of them in one table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semisalt.report.board import add_row, flatten, fresh_writer
from semisalt.report.study_trials import short


def log_trial(run_path: Path, searched: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Write a trial's row: every searched key by its dotted name, and its final figures.

    It takes the place of the row that any run has (its whole configuration), so that a trial is one row and the columns
    are what the study searched. TensorBoard names the row by its folder, RUN/tensorboard/result; the curves of the
    trial's folds stand beside it.

    Args:
        run_path: the trial's run directory.
        searched: key → value; a key that a condition left out of the trial is missing. A table is one cell: keys
            within it may be searched for themselves.
        metrics: name → value, as far as known.

    Raises:
        ValueError: without any key or any metric: TensorBoard would not show such a row.
    """
    if not searched or not metrics:
        raise ValueError(f"{run_path}: a row needs a searched key and a metric")
    row = {key: value if isinstance(value, int | float) else short(value) for key, value in searched.items()}
    with fresh_writer(run_path / "tensorboard" / "result") as writer:
        add_row(writer, flatten(row), {name: float(value) for name, value in metrics.items()})
