import json
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semisalt.training.log import TrainingLog, read_metrics
from tests.tiny import tiny_log


def record(epoch: int, score: float | None = 0.5) -> dict[str, float | int]:
    made: dict[str, float | int] = {"epoch": epoch, "step": 4 * epoch + 4, "loss/bce": 1.0 / (epoch + 1), "lr": 1e-3}
    return {**made, "seconds": 9.0} if score is None else {**made, "score": score, "seconds": 9.0}


def test_one_line_an_epoch_and_one_for_the_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tiny_log(tmp_path) as log:
        log.begin(12, 0)
        for epoch in range(3):
            log.step(4 * epoch)
            log.epoch(record(epoch, None if epoch == 1 else 0.25), best=0.75)
    assert read_metrics(tmp_path / "metrics.jsonl") == [record(0, 0.25), record(1, None), record(2, 0.25)]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # validated epochs only
    assert lines[0].startswith("fold: epoch 1, score 0.2500 (best 0.7500), bce 1.0000, lr 1.00e-03")


def test_tensorboard_has_the_figures_by_step(tmp_path: Path) -> None:
    with tiny_log(tmp_path) as log:
        log.begin(12, 0)
        for epoch in range(3):
            log.epoch(record(epoch, epoch / 4), best=1)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("score")] == [(4, 0.0), (8, 0.25), (12, 0.5)]
    assert {"score", "lr", "loss/bce"} <= set(events.Tags()["scalars"])


def test_events_of_a_killed_process_do_not_count_twice(tmp_path: Path) -> None:
    with tiny_log(tmp_path) as log:
        log.begin(12, 0)
        log.epoch(record(0, 0.1), best=1)
        log.epoch(record(1, 0.2), best=1)
    time.sleep(1.1)  # the events' files are told apart by the second
    with tiny_log(tmp_path, resumed_step=4) as log:  # the checkpoint is that of epoch 0
        log.begin(12, 4)
        log.rewind(1)
        log.epoch(record(1, 0.3), best=1)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("score")] == [(4, 0.1), (8, 0.3)]
    assert read_metrics(tmp_path / "metrics.jsonl") == [record(0, 0.1), record(1, 0.3)]


def test_rewind_drops_later_lines_and_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record(epoch)) + "\n" for epoch in range(4)) + '{"epoch": 4, "sc')
    with tiny_log(tmp_path) as log:
        log.rewind(2)
    assert path.read_text() == "".join(json.dumps(record(epoch)) + "\n" for epoch in range(2))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["metrics.jsonl"]
    with tiny_log(tmp_path / "new") as log:
        log.rewind(0)
    assert not (tmp_path / "new" / "metrics.jsonl").exists()


def test_a_process_that_does_not_write_keeps_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = TrainingLog(tmp_path / "m.jsonl", tmp_path / "events", "fold", enabled=False, resumed_step=0)
    with log:
        log.begin(4, 0)
        log.rewind(0)
        log.step(1)
        log.epoch(record(0), best=1)
        log.say("hello")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
