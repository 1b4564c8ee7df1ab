"""What TensorBoard reads back."""

import json

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG, SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from semisalt.inference.evaluate import evaluate
from semisalt.report.board import flatten, log_fold, log_run
from semisalt.report.figures import outlined, sheet


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def picture(accumulator, tag):
    (event,) = accumulator.Images(tag)
    return cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def fold_of(run, labelled, fold):
    tiles = labelled.subset(~labelled.blank)
    return tiles.subset(np.arange(len(tiles)) % 2 == fold), np.load(run.fold(fold).probabilities)


def test_a_fold_shows_its_worst_and_random_tiles(run, labelled):
    tiles, probabilities = fold_of(run, labelled, 0)
    with SummaryWriter(str(run.path / "tensorboard" / "fold0")) as training:
        training.add_scalar("score", 0.5, 7)
    for _ in range(2):  # as after a resumed end
        log_fold(run, 0, tiles, probabilities)
    found = events(run.path / "tensorboard" / "fold0" / "tiles")
    assert sorted(found.Tags()["images"]) == [f"{kind}/{k:02}" for kind in ("random", "worst") for k in range(1, 13)]
    assert len(list((run.path / "tensorboard" / "fold0" / "tiles").iterdir())) == 1
    index = tiles.ids.index("t007")  # missed its salt
    expected = outlined(tiles.images[index], tiles.masks[index], np.zeros_like(tiles.masks[index]))
    assert (picture(found, "worst/01") == sheet([expected], ["t007  score 0.0  IoU 0.00"], 1)).all()
    assert [event.step for event in events(run.path / "tensorboard" / "fold0").Scalars("score")] == [7]


def test_the_random_tiles_stay_the_same_from_run_to_run(run, run_with, labelled):
    shown = []
    for each in (run, run_with("training.batch=4")):
        tiles, probabilities = fold_of(each, labelled, 1)
        log_fold(each, 1, tiles, probabilities)
        found = events(each.path / "tensorboard" / "fold1" / "tiles")
        shown.append([picture(found, f"random/{k:02}") for k in range(1, 13)])
    assert all((a == b).all() for a, b in zip(*shown, strict=True))
    assert len({image.tobytes() for image in shown[0]}) == 12


def test_few_tiles_and_unfit_ones(run, labelled):
    few = labelled.subset(np.arange(3))
    log_fold(run, 0, few, few.masks * np.uint8(255))
    assert len(events(run.path / "tensorboard" / "fold0" / "tiles").Tags()["images"]) == 6
    with pytest.raises(ValueError, match="probabilities"):
        log_fold(run, 0, few, few.masks[:2])


def test_a_run_shows_its_curve(run):
    for _ in range(2):
        log_run(run)
    results = json.loads((run.path / "results.json").read_text())
    found = events(run.path / "tensorboard" / "curve")
    scalars = found.Scalars("precision_over_threshold")
    assert [event.step for event in scalars] == [round(100 * t) for t in results["curve"]["thresholds"]]
    assert [event.value for event in scalars] == pytest.approx(results["curve"]["precision"], abs=1e-6)
    assert picture(found, "threshold").shape == (400, 640, 3)


def test_a_run_has_one_row_of_hyperparameters(run_with):
    run = run_with("training.epochs=17", "training.patience=null", "model.hypercolumn=false")
    for _ in range(2):
        log_run(run)
    results = json.loads((run.path / "results.json").read_text())
    folder = run.path / "tensorboard" / "result"
    assert len(list(folder.iterdir())) == 1  # one row, no folder below
    found = events(folder)
    content = found.PluginTagToContent("hparams")
    assert set(content) == {SESSION_START_INFO_TAG, SESSION_END_INFO_TAG}
    row = HParamsPluginData.FromString(content[SESSION_START_INFO_TAG]).session_start_info.hparams
    assert row["training.epochs"].number_value == 17
    assert row["schedule.kind"].string_value == "triangular2"
    assert row["model.hypercolumn"].string_value == "false"
    assert row["model.decoder_channels"].string_value == "128, 64, 48, 32, 16"
    assert row["folds_finished"].number_value == 2
    assert row["data.fingerprint"].string_value == "f" * 12
    assert "training.patience" not in row
    expected = {
        "at_half": results["at_half"]["precision"]["value"],
        "cross_fitted": results["cross_fitted"]["value"],
        "chosen": results["chosen"]["precision"]["value"],
    }
    assert set(found.Tags()["scalars"]) == set(expected)
    for tag, value in expected.items():
        (event,) = found.Scalars(tag)
        assert event.value == pytest.approx(value, abs=1e-6)


def test_flattening():
    tree = {"a": {"b": {"c": 1, "d": None}, "e": True}, "f": [1, 2.5], "g": "auto", "h": []}
    assert flatten(tree) == {"a.b.c": 1, "a.e": "true", "f": "1, 2.5", "g": "auto", "h": ""}


def test_an_inflated_run_has_no_score_by_the_plain_names(run, labelled):
    """What TensorBoard's own reader finds: every score of the run bears the mark."""
    file = run.path / "provenance.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "inflated": "labels are pooled"}))
    evaluate(run, labelled)
    log_run(run)
    assert json.loads((run.path / "results.json").read_text())["inflated"] == "labels are pooled"
    assert events(run.path / "tensorboard" / "curve").Tags()["scalars"] == ["inflated/precision_over_threshold"]
    found = events(run.path / "tensorboard" / "result")
    names = {f"inflated/{name}" for name in ("at_half", "cross_fitted", "chosen")}
    assert set(found.Tags()["scalars"]) == names
    start = HParamsPluginData.FromString(found.PluginTagToContent("hparams")[SESSION_START_INFO_TAG])
    assert start.session_start_info.hparams["folds_finished"].number_value == 2
