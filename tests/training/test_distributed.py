"""Two processes on one machine (gloo) train as one does."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semisalt.inference.build import build_network, channels_of
from semisalt.inference.predict import Predictor
from semisalt.metrics import precision
from semisalt.training.crossval import divide
from semisalt.training.log import read_metrics
from tests.tiny import tiny_config, tiny_survey, tiny_trainer
from tests.training import jobs

CONFIG = tiny_config(snapshots={"keep": 3}, training={"epochs": 3})


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by two processes, and beside it what each of them noted."""
    folder = tmp_path_factory.mktemp("together")
    assert jobs.run(jobs.train_together, folder / "run", CONFIG, folder, world=2) == [0, 0]
    return folder


def test_each_tile_once_an_epoch(notes: Path) -> None:
    seen = [json.loads((notes / f"seen{rank}.json").read_text()) for rank in range(2)]
    tiles = len(divide(tiny_survey(), CONFIG).train(0))
    steps = round(tiles / 8)
    assert [len(steps_of) for steps_of in seen] == [3 * steps, 3 * steps]
    for epoch in range(3):
        both = [t for rank in seen for part in rank[epoch * steps : (epoch + 1) * steps] for t in part]
        assert sorted(both) == list(range(tiles))


def test_same_weights_on_both(notes: Path) -> None:
    first, second = (torch.load(notes / f"weights{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    kept = load_file(notes / "run" / "fold0" / "snapshots" / "epoch0002.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in first.items())


def test_scores_are_what_one_process_computes_from_the_saved_weights(notes: Path) -> None:
    survey = tiny_survey()
    channels = channels_of(CONFIG, survey)
    network = build_network(CONFIG, channels)
    tiles = divide(survey, CONFIG).validation(0)
    predictor = Predictor(channels, torch.device("cpu"), "fp32", 64, True)
    records = read_metrics(notes / "run" / "fold0" / "metrics.jsonl")
    assert tiles.masks is not None
    for record in records:
        network.load_state_dict(
            load_file(notes / "run" / "fold0" / "snapshots" / f"epoch{record['epoch']:04d}.safetensors")
        )
        score = precision(predictor(network, tiles) > 0.5, tiles.masks).mean()
        assert record["score"] == pytest.approx(score, abs=1e-9)
    assert len({record["score"] for record in records}) > 1


def test_only_the_first_process_writes(notes: Path) -> None:
    written = [json.loads((notes / f"written{rank}.json").read_text()) for rank in range(2)]
    assert any("last.ckpt" in str(path) or ".last." in str(path) for path in written[0])
    assert written[1] == []
    assert (notes / "run" / "results.json").exists()


@pytest.mark.parametrize("method", ["mean_teacher", "co_training"])
def test_methods_with_unlabelled_tiles_train_alike_on_both(tmp_path: Path, method: str) -> None:
    """What is trained, and what is judged and kept, are the same; labelled and unlabelled tiles are shared out."""
    sections = {"training": {"epochs": 2, "epoch_steps": 3, "batch": 8, "patience": None}, "unlabelled": {"batch": 4}}
    config = tiny_config(method=method, **sections)  # type: ignore[arg-type]
    assert jobs.run(jobs.train_together, tmp_path / "run", config, tmp_path, world=2) == [0, 0]
    for name in ("trained", "judged"):
        first, second = (torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True) for rank in range(2))
        pairs = zip(first, second, strict=True) if name == "trained" else ((first[k], second[k]) for k in first)
        assert all(torch.equal(one, other) for one, other in pairs)
    kept = load_file(tmp_path / "run" / "fold0" / "snapshots" / "epoch0001.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in first.items())
    seen = [json.loads((tmp_path / f"seen{rank}.json").read_text()) for rank in range(2)]
    views, labelled = (2 if method == "co_training" else 1), len(divide(tiny_survey(), config).train(0))
    for steps in zip(*seen, strict=True):
        assert [len(tiles) for tiles in steps] == [4 * views + 2] * 2
        bare = [tile for tiles in steps for tile in tiles if tile >= labelled]
        assert len(bare) == len(set(bare)) == 4


@pytest.mark.parametrize(("batch", "uneven"), [(10, False), (15, True)])
def test_gradients_of_two_halves_are_those_of_the_whole(tmp_path: Path, batch: int, uneven: bool) -> None:
    """Each tile weighs the same, though one process may have a tile more than the other."""
    config = tiny_config(training={"batch": batch}, loss={"switch_epoch": 0})
    assert jobs.run(jobs.first_gradients, tmp_path, config, world=2) == [0, 0]
    trainer = tiny_trainer(tmp_path / "one", config)
    trainer.method.networks[0].eval()
    trainer.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
    trainer.optimiser.zero_grad = lambda **_: None  # type: ignore[method-assign,assignment]
    first_batch = next(trainer.stream(0))
    assert len(first_batch.indices) % 2 == uneven
    trainer.step(first_batch)
    whole = [parameter.grad for parameter in trainer.parameters]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    scale = max(float(gradient.abs().max()) for gradient in whole if gradient is not None)
    assert scale > 1e-3
    for expected, first, second in zip(whole, *halves, strict=True):
        assert expected is not None
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-6 * scale)
