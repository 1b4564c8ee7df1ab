"""Runs side by side, against scores put together by hand."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_array, write_json
from semisalt.inference.compare import Comparison, Subject, compare
from semisalt.inference.evaluate import evaluate
from semisalt.metrics import precision
from semisalt.run import RunDirectory, read_csv, write_csv
from semisalt.training.crossval import divide
from tests.tiny import tiny_config, tiny_survey

CONFIG = tiny_config(data={"folds": 3, "label_fraction": 0.5}, training={"patience": None})
FOLDS = (0, 1, 2)
LONGER = CONFIG.training.model_copy(update={"epochs": CONFIG.training.epochs + 1})


def made_run(
    path: Path,
    survey: Survey,
    noise: float,
    folds: tuple[int, ...] = FOLDS,
    config: Config = CONFIG,
    provenance: Mapping[str, object] | None = None,
    steps: int = 100,
) -> RunDirectory:
    """A run whose maps are the truth, each tile wrong by chance: the more noise, the more of its rows are flipped."""
    run = RunDirectory.create(
        path, config, {"data": survey.fingerprint, "source": "nowhere", "seed": 1, **(provenance or {})}
    )
    division = divide(survey, config)
    rows = zip(division.tiles.ids, division.folds.tolist(), division.kept.astype(int).tolist(), strict=True)
    write_csv(path / "folds.csv", ("id", "fold", "label_used"), list(rows))
    generator = np.random.default_rng(round(1000 * noise))
    for fold in folds:
        masks = division.validation(fold).masks
        assert masks is not None
        wrong = generator.uniform(size=masks.shape[:2]) < noise
        write_array(run.fold(fold).probabilities, (255 * (masks ^ wrong[:, :, None])).astype(np.uint8))
        write_json(run.fold(fold).result, {"steps": steps + fold, "seconds": 60.0})
    return run


def by_hand(run: RunDirectory, survey: Survey, folds: tuple[int, ...]) -> dict[str, float]:
    division = divide(survey, run.config)
    scores = {}
    for fold in folds:
        tiles = division.validation(fold)
        assert tiles.masks is not None
        maps: NDArray[np.uint8] = np.load(run.fold(fold).probabilities)
        scores |= dict(zip(tiles.ids, precision(maps > 127, tiles.masks), strict=True))
    return scores


def alone(*runs: RunDirectory) -> list[Subject]:
    return [Subject(run.path.name, (run,)) for run in runs]


def test_scores_and_differences_by_hand(tmp_path: Path, survey: Survey) -> None:
    bad, good = made_run(tmp_path / "bad", survey, 0.3), made_run(tmp_path / "good", survey, 0.05)
    found = compare(alone(bad, good), survey)
    scores = [by_hand(run, survey, FOLDS) for run in (bad, good)]
    assert found.folds == FOLDS
    assert found.tiles == len(scores[0])
    assert [row.name for row in found.rows] == ["bad", "good"]
    for row, mine in zip(found.rows, scores, strict=True):
        assert row.score.value == pytest.approx(np.mean(list(mine.values())))
    differences = [scores[1][tile] - scores[0][tile] for tile in scores[0]]
    assert found.rows[0].difference is None
    gain = found.rows[1].difference
    assert gain is not None
    assert gain.value == pytest.approx(np.mean(differences))
    # Paired: as narrow as the differences spread, which is not how wide two means apart would be.
    width = 2 * 1.96 * np.std(differences) / np.sqrt(len(differences))
    assert gain.high - gain.low == pytest.approx(width, rel=0.15)
    # Half the labels of 40 tiles of the other folds, of 59 that are not blank.
    assert found.rows[0].labels == pytest.approx(20, abs=1)
    assert found.rows[0].steps == (101.0,)
    assert found.rows[0].seconds == 180.0


def test_only_the_common_folds_count_unless_some_are_named(tmp_path: Path, survey: Survey) -> None:
    one, two = made_run(tmp_path / "one", survey, 0.1), made_run(tmp_path / "two", survey, 0.2, folds=(1, 2))
    assert compare(alone(one, two), survey).folds == (1, 2)
    named = compare(alone(one, two), survey, [2])
    assert named.folds == (2,)
    assert named.rows[0].score.value == pytest.approx(np.mean(list(by_hand(one, survey, (2,)).values())))
    with pytest.raises(UserError, match="two: fold 0 not finished"):
        compare(alone(one, two), survey, [0, 1])
    with pytest.raises(UserError, match="--folds 1, 3: the folds are 0 to 2"):
        compare(alone(one, two), survey, [1, 3])
    three = made_run(tmp_path / "three", survey, 0.2, folds=(0,))
    with pytest.raises(UserError, match="no fold is finished by all of them"):
        compare(alone(two, three), survey)


def test_folds_trained_apart_are_one_subject(tmp_path: Path, survey: Survey) -> None:
    whole = made_run(tmp_path / "whole", survey, 0.2)
    parts = [made_run(tmp_path / f"part{fold}", survey, 0.2, folds=(fold,)) for fold in FOLDS]
    for fold, part in enumerate(parts):
        write_array(part.fold(fold).probabilities, np.load(whole.fold(fold).probabilities))
    found = compare([*alone(whole), Subject("parts", tuple(parts))], survey)
    gain = found.rows[1].difference
    assert gain is not None
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)
    assert found.rows[1].seconds == 180.0


def test_cross_fitted_a_careful_network_is_not_held_down(tmp_path: Path, survey: Survey) -> None:
    """Planted: the truth at a probability of .45, once as one run and once fold by fold, each with tiles missed."""
    plain = made_run(tmp_path / "plain", survey, 0.1)
    careful = made_run(tmp_path / "careful", survey, 0.0)
    parts = [made_run(tmp_path / f"part{fold}", survey, 0.0, folds=(fold,)) for fold in FOLDS]
    for fold in FOLDS:
        maps = np.load(careful.fold(fold).probabilities) // 255 * 115
        maps[0] = 0
        for run in (careful, parts[fold]):
            write_array(run.fold(fold).probabilities, maps)
    subjects = [*alone(plain, careful), Subject("parts", tuple(parts))]
    half = compare(subjects, survey)
    fitted = compare(subjects, survey, point="cross_fitted")
    assert (half.point, fitted.point) == ("half", "cross_fitted")
    truth = [division.validation(fold).masks for fold in FOLDS for division in (divide(survey, CONFIG),)]
    missed = sum(bool(masks[0].any()) for masks in truth if masks is not None)
    salt = sum(int(masks.any(axis=(1, 2)).sum()) for masks in truth if masks is not None)
    assert 0 < missed < salt
    for index in (1, 2):
        assert half.rows[index].score.value == pytest.approx(1 - salt / half.tiles)
        assert fitted.rows[index].score.value == pytest.approx(1 - missed / half.tiles)
        losses, gains = half.rows[index].difference, fitted.rows[index].difference
        assert losses is not None
        assert gains is not None
        assert losses.high < 0 < gains.low
    for run, row in zip((plain, careful), fitted.rows, strict=False):
        assert row.score.value == pytest.approx(evaluate(run, survey.labelled)["cross_fitted"]["value"])


@pytest.mark.parametrize("folds", [None, [1]])
def test_cross_fitted_it_is_the_same_whether_folds_were_trained_apart(
    tmp_path: Path, survey: Survey, folds: list[int] | None
) -> None:
    """Planted: noisy probabilities, of which folds alone, halves of folds and all folds choose other thresholds."""
    whole = made_run(tmp_path / "whole", survey, 0.0)
    parts = [made_run(tmp_path / f"part{fold}", survey, 0.0, folds=(fold,)) for fold in FOLDS]
    generator = np.random.default_rng(5)
    for fold, part in enumerate(parts):
        masks = divide(survey, CONFIG).validation(fold).masks
        assert masks is not None
        maps = np.clip(110 + 50 * masks + generator.normal(0, 25, masks.shape), 0, 255).astype(np.uint8)
        for run in (whole, part):
            write_array(run.fold(fold).probabilities, maps)
    found = compare([*alone(whole), Subject("parts", tuple(parts))], survey, folds, "cross_fitted")
    gain = found.rows[1].difference
    assert gain is not None
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)
    alone_first = compare([*alone(whole), Subject("part", (parts[1],))], survey, [1], "cross_fitted").rows
    assert alone_first[0].score == alone_first[1].score


def test_scores_are_paired_by_id_whatever_the_order_of_the_predictions(tmp_path: Path, survey: Survey) -> None:
    one, two = made_run(tmp_path / "one", survey, 0.2), made_run(tmp_path / "two", survey, 0.2)
    rows = read_csv(two.path / "folds.csv")
    for fold in FOLDS:
        mine = [row for row in rows if row["fold"] == str(fold)]
        maps = np.load(two.fold(fold).probabilities)
        write_array(two.fold(fold).probabilities, maps[::-1])
        rows = [row for row in rows if row["fold"] != str(fold)] + mine[::-1]
    write_csv(two.path / "folds.csv", tuple(rows[0]), [tuple(row.values()) for row in rows])
    gain = compare(alone(one, two), survey).rows[1].difference
    assert gain is not None
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)


def test_only_parts_of_one_run_go_by_one_name(tmp_path: Path, survey: Survey) -> None:
    parts = [made_run(tmp_path / f"part{fold}", survey, 0.2, folds=(fold,)) for fold in (0, 1)]
    again = made_run(tmp_path / "again", survey, 0.2, folds=(1,))
    with pytest.raises(UserError, match=r"parts: fold 1 is finished in .*part1 and in .*again: name one"):
        compare([Subject("parts", (*parts, again)), *alone(parts[0])], survey)
    taught = made_run(
        tmp_path / "taught", survey, 0.1, folds=(2,), config=CONFIG.model_copy(update={"method": "mean_teacher"})
    )
    later = made_run(tmp_path / "later", survey, 0.1, folds=(2,), provenance={"round": 1})
    longer = made_run(
        tmp_path / "longer", survey, 0.1, folds=(2,), config=CONFIG.model_copy(update={"training": LONGER})
    )
    for other, why in ((taught, "method"), (later, "round"), (longer, r"training\.epochs")):
        with pytest.raises(UserError, match=rf"part0 and .*{other.path.name} did not learn alike \(other {why}\)"):
            compare([Subject("parts", (*parts, other)), *alone(parts[0])], survey)
    elsewhere = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"precision": "bf16"})})
    third = made_run(tmp_path / "third", survey, 0.1, folds=(2,), config=elsewhere)
    assert compare([Subject("parts", (*parts, third)), Subject("again", (*parts, third))], survey).folds == FOLDS


def test_two_subjects_of_one_name_are_refused(tmp_path: Path, survey: Survey) -> None:
    one = made_run(tmp_path / "one", survey, 0.1, folds=(0,))
    other = made_run(tmp_path / "other", survey, 0.2)
    with pytest.raises(UserError, match="two of the runs are called x: name them apart by NAME=RUN"):
        compare([Subject("x", (one,)), Subject("y", (one,)), Subject("x", (other,))], survey)


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ("supervised", set[str]()),
        ("mean_teacher", {"teacher.weight", "unlabelled.batch", "unlabelled.cutmix", "data.unlabelled_limit"}),
        ("co_training", {"co_training.ramp", "unlabelled.batch", "data.unlabelled_limit"}),
    ],
)
def test_what_only_another_method_reads_may_differ_between_parts(
    method: str, read: set[str], tmp_path: Path, survey: Survey
) -> None:
    changes = {
        "teacher.weight": 3.0,
        "co_training.ramp": 0.1,
        "unlabelled.batch": 5,
        "unlabelled.cutmix": 0.1,
        "unlabelled.least_salt": 0.1,
        "data.unlabelled_limit": 5,
        "pseudo.decided": 0.5,
    }
    base = CONFIG.model_copy(update={"method": method})
    first = made_run(tmp_path / "first", survey, 0.2, folds=(0,), config=base)
    for name, value in changes.items():
        section, _, key = name.partition(".")
        config = base.model_copy(update={section: getattr(base, section).model_copy(update={key: value})})
        other = made_run(tmp_path / name, survey, 0.2, folds=(1,), config=config)
        subjects = [Subject("one", (first, other)), Subject("two", (first, other))]
        if name in read:
            with pytest.raises(UserError, match=rf"did not learn alike \(other {name}\)"):
                compare(subjects, survey)
        else:
            assert compare(subjects, survey).folds == (0, 1)


def test_how_often_a_part_was_validated_matters_where_that_decides_something(tmp_path: Path, survey: Survey) -> None:
    seldom = {"validate_every": CONFIG.training.validate_every + 1}
    for patience, refused in ((None, False), (5, True)):
        parts = []
        for fold, update in enumerate(({}, seldom)):
            training = CONFIG.training.model_copy(update={"patience": patience, **update})
            config = CONFIG.model_copy(update={"training": training})
            parts.append(made_run(tmp_path / f"{patience}{fold}", survey, 0.2, folds=(fold,), config=config))
        subjects = [Subject("one", tuple(parts)), Subject("two", tuple(parts))]
        if refused:
            with pytest.raises(UserError, match=r"did not learn alike \(other training\.validate_every\)"):
                compare(subjects, survey)
        else:
            assert compare(subjects, survey).folds == (0, 1)


@pytest.mark.parametrize("change", [{"seed": 2}, {"data": {"folds": 4}}])
def test_other_validation_tiles_are_refused(tmp_path: Path, survey: Survey, change: dict[str, object]) -> None:
    first = made_run(tmp_path / "first", survey, 0.1)
    config = tiny_config(**{"data": {"folds": 3}, **change})  # type: ignore[arg-type]
    other = made_run(tmp_path / "other", survey, 0.1, config=config)
    with pytest.raises(UserError, match=r"other: fold 0 does not hold the same validation tiles as that of .*first"):
        compare(alone(first, other), survey)


def test_other_labels_on_the_same_tiles_are_no_obstacle(tmp_path: Path, survey: Survey) -> None:
    few = made_run(tmp_path / "few", survey, 0.2)
    many = made_run(tmp_path / "many", survey, 0.1, config=tiny_config(data={"folds": 3}))
    found = compare(alone(few, many), survey)
    assert found.rows[1].labels == pytest.approx(2 * found.rows[0].labels, abs=1)


def test_other_data_is_refused(tmp_path: Path, survey: Survey) -> None:
    other = tiny_survey(60, 11)
    first, second = made_run(tmp_path / "first", survey, 0.1), made_run(tmp_path / "second", other, 0.1)
    with pytest.raises(UserError, match=r"second was made from other data"):
        compare(alone(first, second), survey)


def test_what_a_run_is_and_builds_on(tmp_path: Path, survey: Survey) -> None:
    base = made_run(tmp_path / "base", survey, 0.3)
    pooled = {"round": 1, "labels_by": str(base.path), "inflated": "pooled"}
    first = made_run(tmp_path / "round1", survey, 0.2, provenance=pooled, steps=50)
    teacher = made_run(
        tmp_path / "teacher",
        survey,
        0.1,
        config=CONFIG.model_copy(
            update={"method": "mean_teacher", "training": CONFIG.training.model_copy(update={"patience": 5})}
        ),
        provenance={"start": str(first.path)},
        steps=10,
    )
    views = tiny_config(data={"folds": 3}, method="co_training", training={"patience": None})
    cotrained = made_run(tmp_path / "cotrain", survey, 0.1, config=views, steps=20)
    found: Comparison = compare(alone(base, first, teacher, cotrained), survey, [1])
    methods = ["supervised", "pseudo-labels, round 1", "mean teacher", "deep co-training"]
    assert [row.method for row in found.rows] == methods
    assert [row.steps for row in found.rows] == [(101.0,), (101.0, 51.0), (101.0, 51.0, 11.0), (21.0,)]
    assert [row.inflated for row in found.rows] == [False, True, False, False]
    assert [row.chosen for row in found.rows] == [False, False, True, False]


def test_what_a_round_learned_from_may_not_differ_between_its_parts(tmp_path: Path, survey: Survey) -> None:
    provenance = {"round": 1, "labels_by": "gone"}
    first = made_run(tmp_path / "first", survey, 0.2, folds=(0,), provenance=provenance)
    for section, change in (("pseudo", {"decided": 0.5}), ("data", {"unlabelled_limit": 5})):
        config = CONFIG.model_copy(update={section: getattr(CONFIG, section).model_copy(update=change)})
        other = made_run(tmp_path / section, survey, 0.2, folds=(1,), config=config, provenance=provenance)
        with pytest.raises(UserError, match=rf"did not learn alike \(other {section}\.{next(iter(change))}\)"):
            compare([Subject("one", (first, other)), Subject("two", (first,))], survey)


def test_parts_begin_alike(tmp_path: Path, survey: Survey) -> None:
    first = made_run(tmp_path / "first", survey, 0.2, folds=(0,))
    warm = made_run(tmp_path / "warm", survey, 0.2, folds=(1,), provenance={"start": str(first.path)})
    with pytest.raises(UserError, match=r"did not learn alike \(other weights to begin with\)"):
        compare([Subject("one", (first, warm)), Subject("two", (first,))], survey)


@pytest.mark.parametrize("method", get_args(Config.model_fields["method"].annotation))
def test_every_method_is_told_by_its_name(method: str, tmp_path: Path, survey: Survey) -> None:
    run = made_run(tmp_path / "run", survey, 0.2, config=CONFIG.model_copy(update={"method": method}))
    told = compare([Subject("one", (run,)), Subject("two", (run,))], survey).rows[0].method
    assert method.replace("_", "") in told.replace(" ", "").replace("-", "")


@pytest.mark.parametrize("planted", ["gone", "other data", "other folds", "other labels", "not divided", "unfinished"])
def test_steps_of_a_run_that_is_not_there_are_not_passed_over(planted: str, tmp_path: Path, survey: Survey) -> None:
    """A warm start would else look like a training from scratch, or have the steps of whoever has the name now."""
    base = made_run(tmp_path / "base", survey, 0.3)
    warm = made_run(tmp_path / "warm", survey, 0.2, provenance={"start": str(base.path)}, steps=50)
    assert compare(alone(base, warm), survey, [1]).rows[1].steps == (101.0, 51.0)
    reference = made_run(tmp_path / "reference", survey, 0.3)
    if planted == "unfinished":
        base.fold(1).result.unlink()
    else:
        shutil.rmtree(base.path)
    if planted == "other data":
        made_run(base.path, tiny_survey(60, 11), 0.3, steps=7)
    if planted == "other folds":
        made_run(base.path, survey, 0.3, config=CONFIG.model_copy(update={"seed": 5}), steps=7)
    if planted == "other labels":
        made_run(base.path, survey, 0.3, config=tiny_config(data={"folds": 3, "label_fraction": 0.7}), steps=7)
    if planted == "not divided":
        (made_run(base.path, survey, 0.3, steps=7).path / "folds.csv").unlink()
    before, own = compare(alone(reference, warm), survey, [1]).rows[1].steps
    assert np.isnan(before)
    assert own == 51.0


def test_a_run_does_not_build_on_itself(tmp_path: Path, survey: Survey) -> None:
    """Planted: its source, called the same and elsewhere, is gone; two that name each other."""
    one = made_run(tmp_path / "one", survey, 0.2, provenance={"start": str(tmp_path / "old" / "one")})
    assert one.builds_on is None
    two = made_run(tmp_path / "two", survey, 0.2, provenance={"start": str(tmp_path / "three")})
    three = made_run(tmp_path / "three", survey, 0.2, provenance={"start": str(two.path)})
    rows = compare(alone(one, two, three), survey, [1]).rows
    assert [len(row.steps) for row in rows] == [2, 3, 3]
    assert all(np.isnan(row.steps[0]) for row in rows)
