from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semisalt.pseudo.rounds import Outcome
from semisalt.report.rounds_board import log_rounds
from tests.report.test_rounds import GUARDS, TAKEN, figures


def read(path):
    events = EventAccumulator(str(path / "tensorboard" / "rounds"))
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_tensorboards_own_reader_finds_every_rounds_figures(tmp_path):
    rounds = (figures(0, 0.7), figures(1, 0.725, 0.025, 0.025, guards=replace(GUARDS, agreement=0.9)))
    log_rounds(tmp_path, Outcome(rounds[:1], 0, "round 0 is over"))
    log_rounds(tmp_path, Outcome(rounds, 1, "done"))  # takes the other's place
    found = read(tmp_path)
    assert found["rounds/score/value"] == pytest.approx({0: 0.7, 1: 0.725})
    assert found["rounds/minus_first/low"] == pytest.approx({1: 0.015})
    assert found["guards/foreground"] == pytest.approx({0: GUARDS.foreground, 1: GUARDS.foreground})
    assert found["guards/prior_empty_share"] == pytest.approx(dict.fromkeys((0, 1), GUARDS.prior_empty_share))
    assert found["guards/agreement"] == pytest.approx({1: 0.9})
    assert found["taken/coverage"] == pytest.approx({1: TAKEN.coverage})
    assert not any(tag.startswith("inflated/") for tag in found)


def test_a_pooled_rounds_score_has_a_name_of_its_own(tmp_path):
    log_rounds(tmp_path, Outcome((figures(0, 0.7), figures(1, 0.8, 0.1, 0.1, inflated=True)), 1, "done"))
    found = read(tmp_path)
    assert found["rounds/score/value"] == pytest.approx({0: 0.7})
    assert found["inflated/rounds/score/value"] == pytest.approx({1: 0.8})
    assert "rounds/minus_first/value" not in found
