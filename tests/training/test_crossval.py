from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from semisalt.config import Config
from semisalt.data.channels import Channels
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.build import build_network, channels_of
from semisalt.inference.predict import Predictor
from semisalt.methods.supervised import Supervised
from semisalt.metrics import precision
from semisalt.run import RunDirectory, read_csv
from semisalt.training import crossval
from semisalt.training.crossval import divide, train_folds
from semisalt.training.fit import Trainer
from semisalt.training.log import read_metrics
from semisalt.training.snapshots import average_weights
from tests.tiny import tiny_config, tiny_run, tiny_survey

CONFIG = tiny_config(training={"epochs": 3, "batch": 15}, snapshots={"keep": 3, "decay": 0.5})
CPU = torch.device("cpu")


def build_method(network: nn.Module, channels: Channels, config: Config) -> Supervised:
    return Supervised(network, channels, config.loss)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Both folds trained."""
    survey = tiny_survey()
    run = tiny_run(tmp_path_factory.mktemp("folds"), CONFIG, survey)
    train_folds(run, survey, [0, 1], build_method, Accelerator(cpu=True))
    return run


def test_division_leaves_out_the_blank_and_deals_out_the_rest(survey: Survey) -> None:
    division = divide(survey, CONFIG)
    assert len(division.tiles) == 59
    assert "t002" not in division.tiles.ids
    for fold in range(2):
        train, validation = division.train(fold), division.validation(fold)
        assert set(train.ids) | set(validation.ids) == set(division.tiles.ids)
        assert not set(train.ids) & set(validation.ids)
    assert set(division.validation(0).ids) == set(division.train(1).ids)


def test_label_fraction_shortens_training_and_never_validation(survey: Survey) -> None:
    whole = divide(survey, CONFIG)
    short = divide(survey, tiny_config(data={"label_fraction": 0.2}))
    shorter = divide(survey, tiny_config(data={"label_fraction": 0.1}))
    for fold in range(2):
        assert short.validation(fold).ids == whole.validation(fold).ids
        assert len(short.train(fold)) == round(0.2 * len(whole.train(fold)))
        assert set(shorter.train(fold).ids) <= set(short.train(fold).ids) <= set(whole.train(fold).ids)
        assert not set(short.train(fold).ids) & set(whole.validation(fold).ids)
        # Whatever is neither learned from nor scored is unlabelled to this fold, its masks gone.
        bare = short.unlabelled(fold)
        assert bare.masks is None
        everything = {*bare.ids, *short.train(fold).ids, *short.validation(fold).ids}
        assert len(bare) + len(short.train(fold)) + len(short.validation(fold)) == len(everything) == 59
    assert len(whole.unlabelled(0)) == 0


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_the_holdout_is_in_no_fold(survey: Survey, fraction: float) -> None:
    config = tiny_config(data={"holdout": 0.2, "label_fraction": fraction})
    division, whole = divide(survey, config), divide(survey, tiny_config())
    kept_out = set(division.holdout.ids)
    assert len(kept_out) == round(0.2 * 59)
    assert division.holdout.masks is not None
    assert kept_out | set(division.tiles.ids) == set(whole.tiles.ids)
    met: set[str] = set()
    for fold in (0, 1):
        met |= set(division.validation(fold).ids) | set(division.train(fold).ids)
        met |= set(division.without_labels(fold, survey.unlabelled).ids)
    assert not met & kept_out
    bare = survey.unlabelled.subset(~survey.unlabelled.blank)
    assert met == set(division.tiles.ids) | set(bare.ids)
    # The label fraction has no say in it, and without a holdout nothing is kept out.
    assert kept_out == set(divide(survey, tiny_config(data={"holdout": 0.2})).holdout.ids)
    assert not len(whole.holdout)


def test_a_mosaic_is_held_out_as_a_whole(survey: Survey) -> None:
    groups = np.arange(60) // 4
    config = tiny_config(data={"holdout": 0.2, "groups": "mosaic"})
    division = divide(replace(survey, groups=groups), config)
    group_of = dict(zip(survey.labelled.ids, groups.tolist(), strict=True))
    assert not {group_of[name] for name in division.holdout.ids} & {group_of[name] for name in division.tiles.ids}


def test_whoever_watches_is_told_of_each_validated_epoch_and_may_end_it(tmp_path: Path, survey: Survey) -> None:
    config = tiny_config(training={"epochs": 4, "validate_every": 2})
    run = tiny_run(tmp_path / "run", config, survey)
    told: list[tuple[int, int, float]] = []

    def watch(fold: int, epoch: int, score: float) -> None:
        told.append((fold, epoch, score))
        if fold == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_folds(run, survey, [0, 1], build_method, Accelerator(cpu=True), watch=watch)
    records = [record for fold in (0, 1) for record in read_metrics(run.fold(fold).metrics)]
    assert [(fold, epoch) for fold, epoch, _ in told] == [(0, 1), (0, 3), (1, 1)]
    assert [score for *_, score in told] == [record["score"] for record in records if "score" in record]
    # What was told is safe: the fold goes on behind it.
    assert run.fold(1).checkpoint.exists()
    told.clear()
    train_folds(run, survey, [0, 1], build_method, Accelerator(cpu=True), watch=lambda *epoch: told.append(epoch))
    assert [(fold, epoch) for fold, epoch, _ in told] == [(1, 3)]


def test_too_few_tiles_are_refused() -> None:
    with pytest.raises(UserError, match="3 labelled tiles that are not blank are too few for 5 folds"):
        divide(tiny_survey(labelled=4), tiny_config(data={"folds": 5}))


def test_folds_are_written_as_they_were_dealt(run: RunDirectory, survey: Survey) -> None:
    division = divide(survey, CONFIG)
    rows = read_csv(run.path / "folds.csv")
    assert [row["id"] for row in rows] == list(division.tiles.ids)
    assert [int(row["fold"]) for row in rows] == division.folds.tolist()
    assert {row["label_used"] for row in rows} == {"1"}
    assert run.finished_folds() == [0, 1]


def voted(run: RunDirectory, fold: int, tiles: TileSet, survey: Survey) -> NDArray[np.float64]:
    """Votes of 1, 2 and 4 sevenths for the oldest to the newest snapshot."""
    channels = channels_of(CONFIG, survey)
    network = build_network(CONFIG, channels)
    predictor = Predictor(channels, CPU, "fp32", 7, True)
    total = np.zeros(tiles.images.shape)
    for epoch, vote in enumerate((1, 2, 4)):
        network.load_state_dict(load_file(run.fold(fold).snapshots / f"epoch000{epoch}.safetensors"))
        total += vote / 7 * predictor(network, tiles)
    return total


@pytest.mark.parametrize("fold", [0, 1])
def test_out_of_fold_predictions_are_the_snapshots_votes(run: RunDirectory, survey: Survey, fold: int) -> None:
    tiles = divide(survey, CONFIG).validation(fold)
    kept = np.load(run.fold(fold).probabilities)
    assert kept.dtype == np.uint8
    expected = voted(run, fold, tiles, survey) * 255
    assert np.abs(kept - expected).max() <= 1.01  # each vote was rounded, then their sum
    assert kept.std() > 5


def test_result_and_tile_scores_agree_with_the_predictions(run: RunDirectory, survey: Survey) -> None:
    tiles = divide(survey, CONFIG).validation(0)
    assert tiles.masks is not None
    scores = precision(np.load(run.fold(0).probabilities) > 127, tiles.masks)
    rows = read_csv(run.fold(0).tile_scores)
    assert [row["id"] for row in rows] == list(tiles.ids)
    assert [float(row["predictions"]) for row in rows] == scores.tolist()
    assert [float(row["coverage"]) for row in rows] == pytest.approx(tiles.masks.mean((1, 2)).tolist())
    result = run.fold_result(0)
    assert result["precision_at_half"]["predictions"]["value"] == pytest.approx(scores.mean())
    assert result["precision_at_half"].keys() == {"last", "predictions", "weights"}
    assert (result["tiles"], result["training_tiles"]) == (len(tiles), 59 - len(tiles))
    assert (result["epochs"], result["steps"]) == (3, 6)
    assert [snapshot["epoch"] for snapshot in result["snapshots"]] == [0, 1, 2]


@pytest.mark.parametrize(("keep", "passes"), [(1, 1), (3, 4)])
def test_a_fold_is_finished_with_a_pass_for_each_snapshot_and_one_for_their_average(
    tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch, keep: int, passes: int
) -> None:
    finish, predict = crossval._finish_fold, Trainer.predict
    seen: list[int] = []

    def counted(self: Trainer, network: nn.Module, tiles: TileSet) -> NDArray[np.uint8]:
        seen.append(len(tiles))
        return predict(self, network, tiles)

    def watched(*arguments: Any) -> None:
        monkeypatch.setattr(Trainer, "predict", counted)
        finish(*arguments)

    monkeypatch.setattr(crossval, "_finish_fold", watched)
    config = tiny_config(training={"epochs": 3, "batch": 15}, snapshots={"keep": keep, "decay": 0.5})
    run = tiny_run(tmp_path, config, survey)
    train_folds(run, survey, [0], build_method, Accelerator(cpu=True))
    assert len(seen) == passes
    scores = run.fold_result(0)["precision_at_half"]
    assert (scores["last"] == scores["weights"] == scores["predictions"]) is (keep == 1)


def test_averaged_weights_have_statistics_of_their_own(run: RunDirectory, survey: Survey) -> None:
    """Weights are the plain mean; every batch-norm statistic is estimated anew, on what its layer really sees."""
    plain = average_weights(sorted(run.fold(0).snapshots.iterdir()), 0.5)
    kept = load_file(run.fold(0).averaged)
    statistics = {name for name in plain if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert statistics
    for name, value in plain.items():
        if name not in statistics:
            assert torch.equal(kept[name], value), name
        elif name.endswith("running_var"):
            assert not torch.allclose(kept[name], value, rtol=1e-3), name

    # The first layer's statistics are those of its inputs: close to what the training tiles give unaugmented.
    channels = channels_of(CONFIG, survey)
    network = build_network(CONFIG, channels)
    network.load_state_dict(kept)
    name, norm = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d))
    inputs: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _module, given, _out: inputs.append(given[0]))
    train = divide(survey, CONFIG).train(0)
    assert train.depths is not None
    with torch.no_grad():
        network.eval()(channels(torch.from_numpy(train.images), torch.from_numpy(train.depths)))
    seen = inputs[0].var((0, 2, 3))
    ratio = (kept[f"{name}.running_var"] / seen).log().abs().mean()
    stale = (plain[f"{name}.running_var"] / seen).log().abs().mean()
    assert ratio < stale


def test_one_snapshot_is_its_own_average(tmp_path: Path, survey: Survey) -> None:
    config = tiny_config(training={"max_steps": 2, "batch": 15}, snapshots={"combine": "weights"})
    run = tiny_run(tmp_path, config, survey)
    train_folds(run, survey, [1], build_method, Accelerator(cpu=True))
    (snapshot,) = run.fold(1).snapshots.iterdir()
    assert load_file(snapshot).keys() == load_file(run.fold(1).averaged).keys()
    assert all(torch.equal(value, load_file(run.fold(1).averaged)[name]) for name, value in load_file(snapshot).items())
    values = run.fold_result(1)["precision_at_half"]
    assert values["last"] == values["predictions"] == values["weights"]


def test_weights_that_are_combined_speak_out_of_fold(tmp_path: Path, survey: Survey) -> None:
    config = tiny_config(training={"epochs": 2, "batch": 15}, snapshots={"combine": "weights"})
    run = tiny_run(tmp_path, config, survey)
    train_folds(run, survey, [0], build_method, Accelerator(cpu=True))
    channels = channels_of(config, survey)
    network = build_network(config, channels)
    network.load_state_dict(load_file(run.fold(0).averaged))
    expected = Predictor(channels, CPU, "fp32", 64, True)(network, divide(survey, config).validation(0))
    assert np.abs(np.load(run.fold(0).probabilities) - 255 * expected).max() <= 0.51


def test_finished_folds_are_left_alone(run: RunDirectory, survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a finished fold was trained again")

    monkeypatch.setattr(crossval, "_train_fold", refuse)
    train_folds(run, survey, [0, 1], build_method, Accelerator(cpu=True))


def test_folds_start_from_weights_of_their_own(run: RunDirectory) -> None:
    first, second = (load_file(run.fold(fold).snapshots / "epoch0000.safetensors") for fold in range(2))
    assert any(not torch.equal(first[name], second[name]) for name in first if name.endswith("weight"))
