from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from semisalt.inference.weights import load_weights, save_weights, vote_weights
from semisalt.training.snapshots import Snapshot, Snapshots, average_weights

SCORES = [0.1, 0.3, 0.2, 0.3, 0.5, 0.4, 0.6]


def network(value: float) -> nn.Sequential:
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)
    for parameter in made.parameters():
        nn.init.constant_(parameter, value)
    return made


def feed(snapshots: Snapshots, scores: list[float] = SCORES, write: bool = True) -> None:
    best = float("-inf")
    for epoch, score in enumerate(scores):
        snapshots.consider(epoch, score, score > best, network(epoch), write)
        best = max(best, score)


def test_best_keeps_the_last_new_bests(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=3, select="best")
    feed(snapshots)
    assert [(s.epoch, s.score) for s in snapshots.kept] == [(1, 0.3), (4, 0.5), (6, 0.6)]
    for file, epoch in zip(snapshots.files(), (1, 4, 6), strict=True):
        assert (load_file(file)["0.weight"] == epoch).all()


def test_last_keeps_the_last_whatever_their_score(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=3, select="last")
    feed(snapshots)
    assert [s.epoch for s in snapshots.kept] == [4, 5, 6]


def test_nothing_is_removed_before_it_is_asked_for(tmp_path: Path) -> None:
    """A checkpoint on disk may still list what the newest list has dropped."""
    snapshots = Snapshots(tmp_path, keep=2, select="last")
    feed(snapshots)
    assert len(list(tmp_path.iterdir())) == len(SCORES)
    (tmp_path / ".epoch0009.123.tmp.safetensors").touch()  # a killed process's
    (tmp_path / "epoch0099.safetensors").touch()
    (tmp_path / "note.txt").touch()
    snapshots.discard_others()
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["epoch0005.safetensors", "epoch0006.safetensors", "note.txt"]


def test_only_the_writer_writes(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "absent", keep=2, select="last")
    feed(snapshots, write=False)
    assert [s.epoch for s in snapshots.kept] == [5, 6]
    assert not (tmp_path / "absent").exists()
    snapshots.discard_others()


def test_list_survives_as_plain_values(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2, select="best")
    feed(snapshots)
    other = Snapshots(tmp_path, keep=2, select="best")
    other.restore(snapshots.state())
    assert other.kept == snapshots.kept == [Snapshot(4, 0.5, "epoch0004.safetensors"), other.kept[1]]


@given(count=st.integers(1, 20), decay=st.floats(0.1, 1))
def test_votes_add_up_and_fall_by_the_decay(count: int, decay: float) -> None:
    weights = vote_weights(count, decay)
    assert sum(weights) == pytest.approx(1)
    for older, newer in pairwise(weights):
        assert older / newer == pytest.approx(decay)


def test_votes_by_hand() -> None:
    assert vote_weights(3, 0.5) == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert vote_weights(4, 1.0) == [0.25] * 4


def test_average_is_the_weighted_mean_and_integers_come_from_the_newest(tmp_path: Path) -> None:
    files, states = [], []
    for epoch in range(3):
        torch.manual_seed(epoch)
        made = network(0)
        for tensor in (*made.parameters(), made[1].running_mean, made[1].running_var):
            nn.init.normal_(tensor)
        made[1].num_batches_tracked.fill_(10 * epoch)
        save_weights(tmp_path / f"{epoch}.safetensors", made)
        files.append(tmp_path / f"{epoch}.safetensors")
        states.append({name: value.clone() for name, value in made.state_dict().items()})
    average = average_weights(files, 0.5)
    assert average.keys() == states[0].keys()
    for name, value in average.items():
        if name.endswith("num_batches_tracked"):
            assert value.item() == 20
            continue
        expected = (1 * states[0][name] + 2 * states[1][name] + 4 * states[2][name]) / 7
        torch.testing.assert_close(value, expected)
        assert value.dtype == torch.float32


def test_weights_round_trip_though_channels_last(tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "a.safetensors", made)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_weights(tmp_path / "a.safetensors", other)
    for name, value in other.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name
