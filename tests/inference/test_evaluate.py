import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_array, write_json
from semisalt.inference.evaluate import evaluate, load_oof, operating_point
from semisalt.run import RunDirectory, read_csv, write_csv
from semisalt.training.crossval import divide
from tests.tiny import tiny_config, tiny_run

THRESHOLDS, MIN_SALTS = (0.3, 0.4, 0.5, 0.6), (0, 10)
CONFIG = tiny_config(data={"folds": 3})


@pytest.fixture
def run(tmp_path: Path, survey: Survey) -> RunDirectory:
    """Folds 0 and 2 finished: noisy maps of the truth, a fold's a little weaker than another's, with specks."""
    run = tiny_run(tmp_path, CONFIG, survey)
    division = divide(survey, CONFIG)
    generator = np.random.default_rng(0)
    rows = zip(division.tiles.ids, division.folds.tolist(), division.kept.astype(int).tolist(), strict=True)
    write_csv(tmp_path / "folds.csv", ("id", "fold", "label_used"), list(rows))
    for fold, strength in ((0, 0.5), (2, 0.62)):
        tiles = division.validation(fold)
        assert tiles.masks is not None
        maps = strength * tiles.masks + generator.uniform(0, 0.35, tiles.masks.shape)
        maps[:, 2:4, 3:5] = 0.9
        write_array(run.fold(fold).probabilities, np.rint(maps.clip(0, 1) * 255).astype(np.uint8))
        write_json(run.fold(fold).result, {"tiles": len(tiles), "fold": fold})
    return run


def truth_by_id(survey: Survey) -> dict[str, np.ndarray]:
    assert survey.labelled.masks is not None
    return dict(zip(survey.labelled.ids, survey.labelled.masks, strict=True))


def by_hand(salt: np.ndarray, truth: np.ndarray) -> float:
    union = np.count_nonzero(salt | (truth > 0))
    if union == 0:
        return 1.0
    iou = np.count_nonzero(salt & (truth > 0)) / union
    return float(np.mean([iou > t / 100 for t in range(50, 100, 5)]))


def masked(p: np.ndarray, threshold: float, min_salt: int) -> np.ndarray:
    """Salt over the threshold, without islands under min_salt pixels."""
    salt = (p / 255 > threshold).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(salt, connectivity=8)
    for label in range(1, len(stats)):
        if stats[label, cv2.CC_STAT_AREA] < min_salt:
            salt[labels == label] = 0
    return salt > 0


@pytest.fixture
def oof(run: RunDirectory, survey: Survey) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    """(id, fold, probabilities, truth) of every out-of-fold tile, put together from the files by hand."""
    truth = truth_by_id(survey)
    tiles = []
    for fold in (0, 2):
        ids = [row["id"] for row in read_csv(run.path / "folds.csv") if int(row["fold"]) == fold]
        tiles += [(i, fold, p, truth[i]) for i, p in zip(ids, np.load(run.fold(fold).probabilities), strict=True)]
    return tiles


def test_figures_by_independent_arithmetic(
    run: RunDirectory, survey: Survey, oof: list[tuple[str, int, np.ndarray, np.ndarray]]
) -> None:
    results = evaluate(run, survey.labelled)
    half = [by_hand(masked(p, 0.5, 0), t) for _, _, p, t in oof]
    assert results["tiles"] == len(oof)
    assert results["at_half"]["precision"]["value"] == pytest.approx(np.mean(half))

    grid = {
        (threshold, size): np.array([by_hand(masked(p, threshold, size), t) for _, _, p, t in oof])
        for threshold in THRESHOLDS
        for size in MIN_SALTS
    }
    folds = np.array([fold for _, fold, _, _ in oof])
    chosen = results["operating"]
    best = max(scores.mean() for scores in grid.values())
    assert grid[chosen["threshold"], chosen["min_salt"]].mean() == pytest.approx(best)
    assert results["chosen"]["precision"]["value"] == pytest.approx(best)
    assert chosen["min_salt"] == 10  # the specks
    assert chosen["min_hole"] == 0

    # Cross-fitted: each fold at a point that is best on the other one, and there may be several.
    low, high = 0.0, 0.0
    for fold in (0, 2):
        others = {point: scores[folds != fold].mean() for point, scores in grid.items()}
        top = max(others.values())
        here = [grid[point][folds == fold].sum() for point, score in others.items() if np.isclose(score, top)]
        low, high = low + min(here), high + max(here)
    assert low / len(oof) - 1e-9 <= results["cross_fitted"]["value"] <= high / len(oof) + 1e-9

    curve = dict(zip(results["curve"]["thresholds"], results["curve"]["precision"], strict=True))
    for threshold in THRESHOLDS:
        assert curve[threshold] == pytest.approx(grid[threshold, 10].mean())

    empty = [i for i, (_, _, _, t) in enumerate(oof) if not t.any()]
    false = np.mean([masked(oof[i][2], 0.5, 0).any() for i in empty])
    assert results["at_half"]["false_salt_share"] == pytest.approx(false)


def test_files_tell_the_same(
    run: RunDirectory, survey: Survey, oof: list[tuple[str, int, np.ndarray, np.ndarray]]
) -> None:
    results = evaluate(run, survey.labelled)
    assert json.loads((run.path / "results.json").read_text()) == results == run.results
    assert [(row["id"], int(row["fold"])) for row in read_csv(run.path / "oof.csv")] == [t[:2] for t in oof]
    np.testing.assert_array_equal(np.load(run.path / "oof.npy"), np.stack([p for _, _, p, _ in oof]))
    assert results["folds"].keys() == {"0", "2"}
    assert results["folds"]["2"]["fold"] == 2
    point = operating_point(run)
    assert (point.threshold, point.min_salt) == (results["operating"]["threshold"], results["operating"]["min_salt"])


def test_maps_belong_to_their_tiles_whatever_the_order_of_the_labelled_set(run: RunDirectory, survey: Survey) -> None:
    truth = truth_by_id(survey)
    backwards = survey.labelled.subset(np.arange(len(survey.labelled))[::-1].copy())
    probabilities, tiles, fold_of = load_oof(run, backwards)
    assert tiles.masks is not None
    assert len(probabilities) == len(tiles) == len(fold_of)
    for name, mask, map_ in zip(tiles.ids, tiles.masks, probabilities, strict=True):
        np.testing.assert_array_equal(mask, truth[name])
        if mask.any() and not mask.all():
            assert map_[mask > 0].mean() > map_[mask == 0].mean()


def test_single_fold_is_cross_fitted_over_its_halves(run: RunDirectory, survey: Survey) -> None:
    run.fold(2).result.unlink()
    results = evaluate(run, survey.labelled)
    assert results["folds"].keys() == {"0"}
    assert results["cross_fitted"]["value"] <= results["chosen"]["precision"]["value"] + 0.05
    assert 0 < results["cross_fitted"]["low"] <= results["cross_fitted"]["value"] <= results["cross_fitted"]["high"]


def test_labels_that_may_not_be_used_choose_nothing(run: RunDirectory, survey: Survey) -> None:
    """The truth of every second tile is turned round: the choice must not move, if those may not be used."""
    rows = [(row["id"], row["fold"], int(at % 2 == 0)) for at, row in enumerate(read_csv(run.path / "folds.csv"))]
    write_csv(run.path / "folds.csv", ("id", "fold", "label_used"), rows)
    before = evaluate(run, survey.labelled)
    unused = {tile for tile, _, used in rows if not used}
    assert survey.labelled.masks is not None
    masks = survey.labelled.masks.copy()
    masks[[tile in unused for tile in survey.labelled.ids]] ^= 1
    changed = replace(survey.labelled, masks=masks)
    after = evaluate(run, changed)
    assert (after["operating"], after["curve"]) == (before["operating"], before["curve"])
    assert after["at_half"] != before["at_half"]
    write_csv(run.path / "folds.csv", ("id", "fold", "label_used"), [(tile, fold, 1) for tile, fold, _ in rows])
    assert evaluate(run, changed)["curve"] != before["curve"]


def test_nothing_finished_is_said(tmp_path: Path, survey: Survey) -> None:
    run = tiny_run(tmp_path / "new", CONFIG, survey)
    with pytest.raises(UserError, match="no fold is finished"):
        evaluate(run, survey.labelled)
    assert not (run.path / "oof.npy").exists()


def test_the_verdict_on_mosaics_stays_as_long_as_its_folds_do(run: RunDirectory, survey: Survey) -> None:
    results = evaluate(run, survey.labelled)
    write_json(run.path / "results.json", {**results, "mosaics": {"alone": 0.5}})
    assert evaluate(run, survey.labelled)["mosaics"] == {"alone": 0.5}
    write_json(run.fold(2).result, {**run.fold_result(2), "retrained": True})
    assert "mosaics" not in evaluate(run, survey.labelled)
