from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from semisalt.config import Config
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference import ensemble
from semisalt.inference.ensemble import mean_iou, mean_of, measures, predict_fold, predict_folds
from semisalt.inference.predict import Predictor
from semisalt.inference.weights import load_weights, save_weights
from semisalt.run import RunDirectory
from tests.tiny import tiny_channels, tiny_config, tiny_network, tiny_run, tiny_tiles

PREDICTOR = Predictor(tiny_channels(), torch.device("cpu"), "fp32", 8, True)
TILES = tiny_tiles(20, seed=5)
EPOCHS = (3, 7)


def random_network(seed: int) -> nn.Module:
    """Predictions that differ from pixel to pixel and from seed to seed."""
    network = tiny_network(seed=seed)
    with torch.no_grad():
        network.head.weight.mul_(20)  # type: ignore[union-attr, operator]
    return network.eval()


@pytest.mark.parametrize(("content", "what"), [(None, "missing"), (b"nonsense", "damaged")])
def test_weights_that_cannot_be_read_are_named_with_a_way_out(tmp_path: Path, content: bytes | None, what: str) -> None:
    if content is not None:
        (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=rf"w\.safetensors is {what}.*--resume"):
        load_weights(tmp_path / "w.safetensors", tiny_network())


def begin(path: Path, survey: Survey, config: Config) -> RunDirectory:
    """Folds 0 and 1 finished, two snapshots each."""
    run = tiny_run(path, config, survey)
    for fold in range(2):
        for epoch in EPOCHS:
            save_weights(run.fold(fold).snapshots / f"epoch000{epoch}.safetensors", random_network(10 * fold + epoch))
        save_weights(run.fold(fold).averaged, random_network(50 + fold))
        snapshots = [{"epoch": epoch, "score": 0.5, "file": f"epoch000{epoch}.safetensors"} for epoch in EPOCHS]
        write_json(run.fold(fold).result, {"snapshots": snapshots})
    return run


@pytest.fixture
def run(tmp_path: Path, survey: Survey) -> RunDirectory:
    return begin(tmp_path / "run", survey, tiny_config(snapshots={"decay": 0.5}))


def predict(run: RunDirectory, tiles: TileSet = TILES) -> list[np.ndarray]:
    files = predict_folds(run, tiles, run.unlabelled, tiny_network(), PREDICTOR, lambda _: None)
    return [np.load(file) for file in files]


def expected(fold: int) -> np.ndarray:
    """(1 · older + 2 · newer) / 3 in 255ths, nothing on blank tiles."""
    older, newer = (PREDICTOR(random_network(10 * fold + epoch), TILES) for epoch in EPOCHS)
    maps = (older.astype(np.float64) + 2 * newer) / 3 * 255
    maps[TILES.images.max((1, 2)) == 0] = 0
    return maps


class Counter:
    """Counts the tiles that are really predicted; after `limit` votes it fails like a killed process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 10**9) -> None:
        self.votes, self.limit = 0, limit
        vote = ensemble._vote

        def counted(*arguments: object) -> object:
            if self.votes == self.limit:
                raise KeyboardInterrupt
            self.votes += 1
            return vote(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ensemble, "_vote", counted)


def test_each_folds_snapshots_vote_for_themselves(run: RunDirectory) -> None:
    found = predict(run)
    assert len(found) == 2
    for fold, maps in enumerate(found):
        assert maps.dtype == np.uint8
        assert np.abs(maps - expected(fold)).max() <= 1.0
    assert np.abs(found[0].astype(int) - found[1]).mean() > 1


def test_blank_tiles_are_empty(run: RunDirectory) -> None:
    for maps in predict(run):
        np.testing.assert_array_equal(maps[2], 0)
        assert maps[[0, 1, 3]].any((1, 2)).all()


def test_averaged_weights_speak_alone(tmp_path: Path, survey: Survey) -> None:
    run = begin(tmp_path / "run", survey, tiny_config(snapshots={"combine": "weights"}))
    for fold, maps in enumerate(predict(run)):
        alone = PREDICTOR(random_network(50 + fold), TILES) * 255
        alone[2] = 0
        assert np.abs(maps - alone).max() <= 0.51


def test_mean_over_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "_CHUNK", 4)
    maps = np.random.default_rng(0).integers(0, 256, (3, 10, 5, 6), dtype=np.uint8)
    files = []
    for fold in range(3):
        np.save(tmp_path / f"fold{fold}.npy", maps[fold])
        files.append(tmp_path / f"fold{fold}.npy")
    found = mean_of(files)
    assert found.dtype == np.uint8
    assert np.abs(found - maps.astype(np.float64).mean(0)).max() <= 0.5 + 1e-4


def test_chunks_do_not_change_the_maps(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict(run)
    monkeypatch.setattr(ensemble, "_CHUNK", 3)
    files = predict_folds(run, TILES, tmp_path / "other", tiny_network(), PREDICTOR, lambda _: None)
    for file, maps in zip(files, whole, strict=True):
        assert np.abs(np.load(file).astype(int) - maps).max() <= 1  # another batch, another rounding at most


def test_killed_prediction_goes_on_where_it_was(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "_CHUNK", 5)  # four chunks a fold
    whole = [np.load(f) for f in predict_folds(run, TILES, run.path / "w", tiny_network(), PREDICTOR, lambda _: None)]
    with monkeypatch.context() as patch:
        killed = Counter(patch, limit=6)
        with pytest.raises(KeyboardInterrupt):
            predict(run)
        assert killed.votes == 6
    assert not (run.unlabelled / "fold1.npy").exists()
    counter = Counter(monkeypatch)
    for maps, reference in zip(predict(run), whole, strict=True):
        np.testing.assert_array_equal(maps, reference)
    assert counter.votes == 2
    assert sorted(p.name for p in run.unlabelled.iterdir() if p.name.count(".") == 1) == [
        "fold0.json",
        "fold0.npy",
        "fold1.json",
        "fold1.npy",
    ]


def test_what_is_there_is_kept(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    before = predict(run)
    counter = Counter(monkeypatch)
    np.testing.assert_array_equal(predict(run), before)
    assert counter.votes == 0


def changed_depths(tiles: TileSet) -> TileSet:
    assert tiles.depths is not None
    return TileSet(tiles.ids, tiles.images, tiles.masks, tiles.depths + 100)


def changed_pixel(tiles: TileSet) -> TileSet:
    images = tiles.images.copy()
    images[0, 0, 0] ^= 255
    return TileSet(tiles.ids, images, tiles.masks, tiles.depths)


def changed_id(tiles: TileSet) -> TileSet:
    return TileSet(("other", *tiles.ids[1:]), tiles.images, tiles.masks, tiles.depths)


@pytest.mark.parametrize("change", [changed_depths, changed_pixel, changed_id])
def test_other_tiles_are_predicted_anew(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, change: object) -> None:
    predict(run)
    counter = Counter(monkeypatch)
    predict(run, change(TILES))  # type: ignore[operator]
    assert counter.votes == 2


def test_other_weights_are_noticed(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    before = predict(run)
    save_weights(run.fold(1).snapshots / "epoch0007.safetensors", random_network(99))
    counter = Counter(monkeypatch)
    after = predict(run)
    assert counter.votes == 1
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).any()


def test_half_a_prediction_of_other_tiles_is_not_gone_on_with(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed on the first tiles, begun and killed on others, back to the first: their half is no longer there."""
    monkeypatch.setattr(ensemble, "_CHUNK", 5)
    whole = [np.load(f) for f in predict_folds(run, TILES, run.path / "w", tiny_network(), PREDICTOR, lambda _: None)]
    for tiles, votes in ((TILES, 2), (changed_pixel(TILES), 0)):
        with monkeypatch.context() as patch:
            Counter(patch, limit=votes)
            with pytest.raises(KeyboardInterrupt):
                predict(run, tiles)
    for maps, reference in zip(predict(run), whole, strict=True):
        np.testing.assert_array_equal(maps, reference)


def test_no_tiles_give_empty_files(run: RunDirectory) -> None:
    for maps in predict(run, TILES.subset(np.array([], np.int64))):
        assert maps.shape == (0, 32, 32)


def test_only_finished_folds_predict(tmp_path: Path, survey: Survey, run: RunDirectory) -> None:
    run.fold(0).result.unlink()
    announced: list[str] = []
    (file,) = predict_folds(run, TILES, run.unlabelled, tiny_network(), PREDICTOR, announced.append)
    assert file.name == "fold1.npy"
    assert announced == [f"fold 1: 20 tiles → {file}"]
    with pytest.raises(UserError, match="no fold is finished"):
        predict(tiny_run(tmp_path / "new", tiny_config(), survey))


def test_network_that_predicts_nan_is_not_hidden(run: RunDirectory) -> None:
    broken = tiny_network()
    load_weights(run.fold(0).snapshots / "epoch0007.safetensors", broken)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    save_weights(run.fold(0).snapshots / "epoch0007.safetensors", broken)
    with pytest.raises(FloatingPointError):
        predict(run)
    assert not (run.unlabelled / "fold0.npy").exists()


def ious(one: np.ndarray, other: np.ndarray) -> list[float]:
    pairs = zip(one, other, strict=True)
    return [float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0 for a, b in pairs]


def test_mean_iou_by_hand() -> None:
    maps = np.zeros((3, 3, 2, 2), np.uint8)
    maps[0, 0], maps[1, 0, 0], maps[2, 0, 0, 0] = 255, 255, 128  # 4, 2 and 1 pixels of salt
    maps[0, 1] = 127  # none
    maps[2, 2] = 255
    found = mean_iou([maps[0], maps[1]], maps[2])
    assert found.tolist() == pytest.approx([(1 / 4 + 1 / 2) / 2, 1.0, 0.0])


def test_measures_lie_beside_the_maps(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stability is of the earlier snapshot against the last; agreement is the mean over both; blank tiles are sure."""
    monkeypatch.setattr(ensemble, "_CHUNK", 7)
    predict(run)
    blank = TILES.images.max((1, 2)) == 0
    for fold in range(2):
        found = {name: np.load(file) for name, file in measures(run.unlabelled / f"fold{fold}.npy").items()}
        judged = [PREDICTOR.judge(random_network(10 * fold + epoch), TILES) for epoch in EPOCHS]
        older, newer = (np.rint(maps * 255) > 127 for maps, _ in judged)
        stability = np.where(blank, 1, ious(older, newer))
        agreement = np.where(blank, 1, np.mean([agrees for _, agrees in judged], axis=0))
        np.testing.assert_allclose(found["stability"], stability, atol=5e-3)
        np.testing.assert_allclose(found["agreement"], agreement, atol=5e-3)
        assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
        assert stability.std() > 0.01


def test_one_voter_has_no_stability(tmp_path: Path, survey: Survey) -> None:
    run = begin(tmp_path / "run", survey, tiny_config(snapshots={"combine": "weights"}))
    file = tmp_path / "maps.npy"
    predict_fold(run, 0, TILES, file, tiny_network(), PREDICTOR)
    stability = np.load(measures(file)["stability"])
    blank = TILES.images.max((1, 2)) == 0
    assert np.isnan(stability[~blank]).all()
    assert (stability[blank] == 1).all()
    assert not np.isnan(np.load(measures(file)["agreement"])).any()


def test_measures_of_a_killed_prediction_equal_the_uninterrupted(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble, "_CHUNK", 5)
    whole, broken = run.path / "whole.npy", run.path / "broken.npy"
    predict_fold(run, 0, TILES, whole, tiny_network(), PREDICTOR)
    with monkeypatch.context() as patch:
        Counter(patch, limit=3)
        with pytest.raises(KeyboardInterrupt):
            predict_fold(run, 0, TILES, broken, tiny_network(), PREDICTOR)
    counter = Counter(monkeypatch)
    predict_fold(run, 0, TILES, broken, tiny_network(), PREDICTOR)
    assert counter.votes == 1
    for name, file in measures(whole).items():
        np.testing.assert_array_equal(np.load(file), np.load(measures(broken)[name]))
    np.testing.assert_array_equal(np.load(whole), np.load(broken))
    predict_fold(run, 0, TILES, broken, tiny_network(), PREDICTOR)
    assert counter.votes == 1


def test_maps_without_their_measures_are_predicted_anew(run: RunDirectory) -> None:
    predict(run)
    for file in measures(run.unlabelled / "fold0.npy").values():
        file.unlink()
    predict(run)
    assert all(file.exists() for file in measures(run.unlabelled / "fold0.npy").values())
