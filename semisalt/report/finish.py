"""What a finished command leaves to be looked at."""

from pathlib import Path

from semisalt.data.tiles import TileSet
from semisalt.inference.evaluate import load_oof
from semisalt.report.board import log_fold, log_run
from semisalt.report.maps import oof_overview
from semisalt.run import RunDirectory


def report_run(run: RunDirectory, labelled: TileSet) -> Path:
    """Write a run's TensorBoard pages and its sheet of out-of-fold tiles; returns the sheet's path."""
    probabilities, tiles, fold_of = load_oof(run, labelled)
    for fold in run.finished_folds():
        log_fold(run, fold, tiles.subset(fold_of == fold), probabilities[fold_of == fold])
    log_run(run)
    picture = run.path / "oof.png"
    oof_overview(run, labelled, picture)
    return picture
