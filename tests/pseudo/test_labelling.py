from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference import ensemble
from semisalt.inference.predict import Predictor
from semisalt.inference.weights import save_weights
from semisalt.pseudo import labelling
from semisalt.pseudo.labelling import halves, label_directory, learned_from
from semisalt.pseudo.labels import load_labels, verdicts_of
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide
from tests.pseudo.made import config_of, labelled, made_run, maps_of, network_of, task_of
from tests.tiny import tiny_survey

CONFIG = config_of()


@pytest.fixture(scope="module")
def tiles() -> Survey:
    return tiny_survey(40, 14)


@pytest.fixture
def run(tmp_path: Path, tiles: Survey) -> RunDirectory:
    return made_run(tmp_path / "source", CONFIG, tiles)


def taken(folder: Any) -> list[str]:
    return [row["id"] for row in verdicts_of(folder) if row["verdict"] == "taken"]


def test_candidates_are_bare_tiles_and_those_that_lost_their_labels(tiles: Survey) -> None:
    division = divide(tiles, CONFIG)
    for fold in range(2):
        names = division.candidates(fold, tiles.unlabelled).ids
        assert names[:14] == tiles.unlabelled.ids
        lost = set(names[14:])
        assert lost == set(division.tiles.ids) - set(division.validation(fold).ids) - set(division.train(fold).ids)
        assert lost
    none = tiles.unlabelled.subset(np.array([], np.int64))
    assert set(division.candidates(0, none).ids) == set(division.unlabelled(0).ids)
    with pytest.raises(UserError, match="no unlabelled tiles"):
        divide(tiles, config_of(data={"label_fraction": 1.0})).candidates(0, none)


def test_labels_are_what_the_folds_own_models_say(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    """Two snapshots vote 4 : 5 (decay .8); the threshold brings the share of salt nearest to the labelled prior."""
    config = config_of(inference={"thresholds": (0.3, 0.4, 0.5, 0.6)})
    for fold in range(2):
        task = task_of(run, tiles, fold)
        folder = labelled(task, config, tmp_path / "round1")
        maps = (
            4 * maps_of(run, tiles, 100 * fold, task.candidates)
            + 5 * maps_of(run, tiles, 100 * fold + 1, task.candidates)
        ) / 9
        blank = task.candidates.images.max((1, 2)) == 0
        train = task.division.train(fold)
        assert train.masks is not None
        distance = [abs((maps[~blank] / 255 > t).mean() - train.masks.mean()) for t in (0.3, 0.4, 0.5, 0.6)]
        provenance = folder.provenance()
        assert min(distance) == pytest.approx(distance[(0.3, 0.4, 0.5, 0.6).index(provenance.threshold)], abs=2e-3)
        found = load_labels(folder, task.candidates)
        assert found.ids == tuple(np.array(task.candidates.ids)[~blank])
        sure = np.abs(maps[~blank] - provenance.threshold * 255) > 1  # stored probabilities are rounded twice
        assert found.masks is not None
        assert (found.masks == (maps[~blank] > provenance.threshold * 255))[sure].all()
        assert sure.mean() > 0.9
        row = verdicts_of(folder)[0]
        assert float(row["coverage"]) == pytest.approx(found.masks[0].mean(), abs=1e-4)


def test_provenance_names_the_weights_and_every_label_learned_from(
    run: RunDirectory, tiles: Survey, tmp_path: Path
) -> None:
    folder = labelled(task_of(run, tiles, 1), CONFIG, tmp_path / "round1")
    kept = folder.provenance()
    division = divide(tiles, CONFIG)
    assert set(kept.learned_from) == set(division.train(1).ids)
    assert not set(kept.learned_from) & set(division.validation(1).ids)
    assert set(kept.models) == {f"fold1/snapshots/epoch000{at}.safetensors" for at in range(2)}
    assert not kept.pooled
    train = division.train(1)
    assert kept.figures["prior_foreground"] == pytest.approx(train.coverage.mean())
    assert kept.figures["prior_empty_share"] == pytest.approx((train.coverage == 0).mean())
    shares = [float(row["coverage"]) for row in verdicts_of(folder) if row["verdict"] != "blank"]
    assert kept.figures["foreground"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert kept.figures["empty_share"] == pytest.approx(np.mean(np.array(shares) == 0))


def test_a_round_whose_labels_are_gone_may_not_label(tiles: Survey, tmp_path: Path) -> None:
    """Nobody can tell any more what its models have learned from."""
    run = made_run(tmp_path / "round1", CONFIG, tiles)
    assert learned_from(run, 0)
    write_json(run.path / "provenance.json", {**run.provenance, "round": 1})
    with pytest.raises(UserError, match=r"what .* has learned from"):
        learned_from(run, 0)


def test_what_was_learned_from_comes_down_through_the_rounds(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    """A label that only the round before the last has learned from is still known."""
    second = made_run(tmp_path / "round1", CONFIG, tiles)
    folder = labelled(task_of(run, tiles, 0), CONFIG, second.path)
    own = learned_from(second, 0)
    assert own == set(divide(tiles, CONFIG).train(0).ids)
    kept = folder.provenance()
    folder.provenance_file.unlink()
    planted = replace(kept, learned_from=(*kept.learned_from, "from afar"))
    labelling.write_provenance(folder, planted)
    assert learned_from(second, 0) == own | {"from afar"}
    third = labelled(task_of(second, tiles, 0), CONFIG, tmp_path / "round2")
    assert "from afar" in third.provenance().learned_from


@pytest.mark.parametrize("change", [{"snapshots": {"select": "best"}}, {"training": {"patience": 5}}])
def test_weights_chosen_by_validation_score_know_the_validation_tiles(
    tiles: Survey, tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(**change)
    assert list(config.chosen_by_score) == [f"{next(iter(change))}.{next(iter(next(iter(change.values()))))}"]
    chosen = made_run(tmp_path / "source", config, tiles)
    assert learned_from(chosen, 0) >= set(divide(tiles, config).validation(0).ids)
    monkeypatch.setattr(labelling, "_predict", None)  # refused before anything is predicted
    with pytest.raises(UserError, match="of fold 0's validation tiles"):
        labelled(task_of(chosen, tiles), config, tmp_path / "round1")


def test_a_planted_leak_is_refused_before_prediction(
    run: RunDirectory, tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One validation tile's label was used by the source: its labels are not even made."""
    monkeypatch.setattr(labelling, "_predict", None)
    victim = divide(tiles, CONFIG).validation(0).ids[0]
    text = (run.path / "folds.csv").read_text()
    assert any(text.count(f"{victim},0,{used}") for used in (0, 1))
    for used in (0, 1):
        text = text.replace(f"{victim},0,{used}", f"{victim},1,1")
    (run.path / "folds.csv").write_text(text)
    with pytest.raises(UserError, match=rf"1 of fold 0's validation tiles \({victim}\)"):
        labelled(task_of(run, tiles), CONFIG, tmp_path / "round1")
    assert not label_directory(RunDirectory(tmp_path / "round1"), 0).complete()


def test_pooled_labels_are_the_mean_of_all_folds_and_know_everything(
    run: RunDirectory, tiles: Survey, tmp_path: Path
) -> None:
    config = config_of(pseudo={"labels": "soft"})
    task = task_of(run, tiles, 0, voters=(0, 1))
    folder = labelled(task, config, tmp_path / "round1")
    kept = folder.provenance()
    assert kept.pooled
    assert set(kept.learned_from) == set(divide(tiles, CONFIG).tiles.subset(divide(tiles, CONFIG).kept).ids)
    assert len(kept.models) == 4
    found = load_labels(folder, task.candidates)
    maps = sum(
        (4 * maps_of(run, tiles, 100 * k, found) + 5 * maps_of(run, tiles, 100 * k + 1, found)) / 9 for k in (0, 1)
    )
    assert np.abs(found.targets - maps / 2).max() <= 2
    own = load_labels(labelled(task_of(run, tiles, 0), config, tmp_path / "alone"), task.candidates)
    assert np.abs(found.targets.astype(int) - own.targets).mean() > 5


def test_pooled_voters_predict_each_tile_once_for_all_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = tiny_survey(60, 9)
    config = config_of(data={"label_fraction": 0.5, "folds": 3}, snapshots={"keep": 1})
    run = made_run(tmp_path / "source", config, survey, folds=(0, 1, 2), snapshots=1)
    seen: list[str] = []
    vote = ensemble._vote

    def spy(part: TileSet, *others: Any) -> Any:
        seen.extend(part.ids)
        return vote(part, *others)

    monkeypatch.setattr(ensemble, "_vote", spy)
    for fold in range(3):
        task = task_of(run, survey, fold, voters=(0, 1, 2))
        assert [tile for tiles, _ in task.parts for tile in tiles.ids] == list(task.candidates.ids)
        labelled(task, config, tmp_path / "round1")
    division = divide(survey, config)
    aside = np.array(division.tiles.ids)[~division.kept].tolist()
    assert len(aside) > 10
    assert sorted(seen) == sorted(3 * (list(survey.unlabelled.ids) + aside))


def test_models_that_see_nothing_are_refused_with_their_figures(
    run: RunDirectory, tiles: Survey, tmp_path: Path
) -> None:
    for number in range(2):
        network = deepcopy(network_of(CONFIG, tiles, number))
        network.head.bias.data -= 50  # type: ignore[union-attr, operator]
        save_weights(run.fold(0).snapshots / f"epoch000{number}.safetensors", network)
    prior = divide(tiles, CONFIG).train(0).coverage
    with pytest.raises(UserError) as refused:
        labelled(task_of(run, tiles), CONFIG, tmp_path / "round1")
    text = str(refused.value)
    for part in (
        "collapsed",
        "0.0% of the unlabelled pixels",
        f"{prior.mean():.1%} of the labelled",
        "100% of the tiles",
    ):
        assert part in text
    assert not (tmp_path / "round1" / "labels" / "fold0" / "provenance.json").exists()


def test_a_share_of_the_prior_is_the_limit(run: RunDirectory, tiles: Survey) -> None:
    task = task_of(run, tiles)
    figures = {"foreground": 0.1, "prior_foreground": 0.4, "empty_share": 0.5, "prior_empty_share": 0.2}
    labelling._refuse_collapse(task, figures, 0.25)
    with pytest.raises(UserError, match="collapsed"):
        labelling._refuse_collapse(task, {**figures, "foreground": 0.0999}, 0.25)
    labelling._refuse_collapse(task, {**figures, "foreground": 0.0}, 0.0)  # a user who knows of less salt


def test_no_tile_is_good_enough(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    config = config_of(pseudo={"decided": 1.0})
    with pytest.raises(UserError, match=r"no tile can be taken \(1 blank, \d+ undecided\)"):
        labelled(task_of(run, tiles), config, tmp_path / "round1")


def test_blank_tiles_alone_are_nothing_to_learn_from(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    black = TileSet(("a", "b"), np.zeros((2, 32, 32), np.uint8), None, np.zeros(2, np.float32))
    whole = divide(tiles, config_of(data={"label_fraction": 1.0}))
    with pytest.raises(UserError, match="all of the 2 unlabelled tiles are blank"):
        labelled(task_of(run, tiles, bare=black, division=whole), CONFIG, tmp_path / "round1")


def test_measures_that_the_source_cannot_give_are_refused(tiles: Survey, tmp_path: Path) -> None:
    plain = made_run(tmp_path / "plain", config_of(inference={"flip": False}), tiles, snapshots=1)
    with pytest.raises(UserError, match=r"pseudo\.mirrored.*inference\.flip"):
        labelled(task_of(plain, tiles), config_of(pseudo={"mirrored": 0.5}), tmp_path / "round1")
    with pytest.raises(UserError, match=r"pseudo\.stability.*fold 0 of .* has one"):
        labelled(task_of(plain, tiles), config_of(pseudo={"stability": 0.5}), tmp_path / "round1")


def iou(one: np.ndarray, other: np.ndarray) -> list[float]:
    pairs = zip(one > 127, other > 127, strict=True)
    return [1.0 if not (a | b).any() else float((a & b).sum() / (a | b).sum()) for a, b in pairs]


@pytest.mark.parametrize("combine", ["predictions", "weights"])
def test_stability_of_snapshots(tiles: Survey, tmp_path: Path, combine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier snapshots against the last; where the averaged weights vote, all snapshots against them."""
    monkeypatch.setattr(labelling, "_CHUNK", 7)
    config = config_of(snapshots={"combine": combine, "keep": 3}, pseudo={"stability": 1e-6})
    source = made_run(tmp_path / "source", config, tiles, snapshots=3)
    task = task_of(source, tiles)
    rows = verdicts_of(labelled(task, config, tmp_path / "round1"))
    seeds, last = ((0, 1), 2) if combine == "predictions" else ((0, 1, 2), 50)
    maps = {seed: np.rint(maps_of(source, tiles, seed, task.candidates)) for seed in (*seeds, last)}
    expected = np.mean([iou(maps[seed], maps[last]) for seed in seeds], axis=0)
    assert [float(row["stability"]) for row in rows] == pytest.approx(expected.tolist(), abs=2e-3)
    assert expected.min() < 0.9


def test_stability_that_was_found_before_a_kill_is_not_found_again(
    tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "_CHUNK", 7)
    config = config_of(snapshots={"combine": "weights", "keep": 2}, pseudo={"stability": 1e-6})
    source = made_run(tmp_path / "source", config, tiles)
    whole = labelled(task_of(source, tiles, maps=tmp_path / "whole"), config, tmp_path / "round1")
    seen: list[tuple[str, ...]] = []
    predict = Predictor.__call__

    def counted(self: Predictor, network: Any, part: TileSet) -> Any:
        if len(seen) == 3:  # both snapshots on the first chunk, one on the second
            seen.append(())
            raise KeyboardInterrupt
        seen.append(part.ids)
        return predict(self, network, part)

    monkeypatch.setattr(Predictor, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        labelled(task_of(source, tiles), config, tmp_path / "round2")
    folder = labelled(task_of(source, tiles), config, tmp_path / "round2")
    assert not set(seen[0]) & {tile for part in seen[4:] for tile in part}
    assert seen[4] == seen[2]
    assert folder.tiles.read_text() == whole.tiles.read_text()


def test_half_swap_takes_from_one_half_at_a_time(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    sets = []
    for half in (0, 1):
        folder = labelled(task_of(run, tiles, half=half), CONFIG, tmp_path / f"round{half + 1}")
        sets.append(set(taken(folder)))
        others = [row["id"] for row in verdicts_of(folder) if row["verdict"] == "of the other half"]
        assert not set(others) & sets[-1]
    names = task_of(run, tiles).candidates.ids
    assert not sets[0] & sets[1]
    assert sets[0] | sets[1] == {name for name in names if name != "u002"}  # the blank one


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_halves_are_even_and_stay(count: int) -> None:
    parts = halves(count, 3)
    assert sorted(set(parts.tolist())) == list(range(min(count, 2)))
    assert (parts == 0).sum() - (parts == 1).sum() == count % 2
    np.testing.assert_array_equal(parts, halves(count, 3))
    if count == 1000:
        assert 400 < (parts == halves(count, 4)).sum() < 600


def test_limit_holds_within_a_half(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    config = config_of(pseudo={"limit": 3})
    assert len(taken(labelled(task_of(run, tiles, half=1), config, tmp_path / "round1"))) == 3


def test_chunks_do_not_change_the_labels(
    run: RunDirectory, tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(pseudo={"labels": "soft"})
    first = labelled(task_of(run, tiles), config, tmp_path / "one")
    monkeypatch.setattr(labelling, "_CHUNK", 5)
    second = labelled(task_of(run, tiles), config, tmp_path / "two")
    assert first.tiles.read_bytes() == second.tiles.read_bytes()
    assert (first.path / "labels.npy").read_bytes() == (second.path / "labels.npy").read_bytes()


def test_nothing_is_predicted_or_labelled_twice(
    run: RunDirectory, tiles: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiles' own part is what `predict` predicts, and its files are used."""
    seen: list[str] = []
    judge = Predictor.judge

    def counted(self: Predictor, network: Any, part: TileSet) -> Any:
        seen.extend(part.ids)
        return judge(self, network, part)

    monkeypatch.setattr(Predictor, "judge", counted)
    task = task_of(run, tiles)
    folder = labelled(task, CONFIG, tmp_path / "round1")
    names = [name for name in task.candidates.ids if name != "u002"]
    assert sorted(seen) == sorted(names * 2)  # by each of two snapshots
    seen.clear()
    labelled(task, CONFIG, tmp_path / "round1")
    labelled(task, CONFIG, tmp_path / "another")
    assert not seen
    ensemble.predict_folds(
        RunDirectory(run.path), tiles.unlabelled, run.unlabelled, network_of(CONFIG, tiles, 0),
        Predictor(labelling.Channels(**run.channels), labelling.torch.device("cpu"), "fp32", 8, True), lambda _: None,
    )  # fmt: skip
    assert set(seen) == set(names[:13])  # fold 1's, the first time
    assert folder.complete()


def test_leftovers_of_a_killed_labelling_are_removed(run: RunDirectory, tiles: Survey, tmp_path: Path) -> None:
    leftovers = [tmp_path / "round1" / "labels" / "fold0" / ".labels.7.tmp.npy", run.unlabelled / ".fold0.7.tmp.json"]
    for leftover in leftovers:
        leftover.parent.mkdir(parents=True)
        leftover.write_text("half")
    labelled(task_of(run, tiles), CONFIG, tmp_path / "round1")
    assert not any(leftover.exists() for leftover in leftovers)
