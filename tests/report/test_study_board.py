"""A study's trials in TensorBoard: as its own readers see them, and as a browser shows them."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.api_pb2 import ListSessionGroupsRequest
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler
from torch.utils.tensorboard import SummaryWriter

from semisalt.report.board import log_run
from semisalt.report.study_board import log_trial
from tests.browser import chromium, complaints
from tests.report.studies import params_of, score_of

COUNT = 6
# The page's text, within the shadow roots of its elements too.
EVERYTHING = """
const text = root => [...root.querySelectorAll("*")].map(
    each => each.shadowRoot ? text(each.shadowRoot) : each.children.length ? "" : each.textContent
).join(" ");
return text(document);
"""


def study_at(path):
    """Trials with a training curve of a fold, and their rows; two of them tried the same."""
    for number in range(COUNT):
        trial = path / f"trial{number:04}"
        with SummaryWriter(str(trial / "tensorboard" / "fold0")) as writer:
            for step in range(3):
                writer.add_scalar("score", 0.1 * step, step)
        searched = params_of(0 if number == COUNT - 1 else number)
        for _ in range(2):  # as after a repeated end
            log_trial(trial, searched, {"score": score_of(number), "seconds": 10.0 + number})
    return path


def rows_of(path):
    """The experiment's columns and its rows, as the HParams tab asks for them."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(path))
    multiplexer.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(path))))
    request = RequestContext()
    tags = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, tags, [])
    handler = Handler(
        request, context, "", ListSessionGroupsRequest(start_index=0, slice_size=100, allowed_statuses=[1, 2, 3])
    )
    groups = handler.run().session_groups
    curves = [run for run in multiplexer.Runs() if run.endswith("fold0")]
    return experiment, groups, curves


def value(entry):
    return getattr(entry, entry.WhichOneof("kind"))


def test_every_trial_is_a_row_with_all_searched_keys(tmp_path):
    experiment, groups, curves = rows_of(study_at(tmp_path / "study"))
    keys = {key for number in range(COUNT) for key in params_of(number)}
    assert {column.name for column in experiment.hparam_infos} == keys
    assert {metric.name.tag for metric in experiment.metric_infos} == {"score", "seconds"}
    assert len(groups) == COUNT  # also the two that tried the same
    assert len(curves) == COUNT
    for group in groups:
        number = int(group.name[5:9])
        expected = params_of(0 if number == COUNT - 1 else number)
        # A key that a condition left out is missing there, no zero.
        assert set(group.hparams) == set(expected)
        assert value(group.hparams["schedule.max_lr"]) == pytest.approx(expected["schedule.max_lr"])
        assert value(group.hparams["schedule.kind"]) == expected["schedule.kind"]
        assert value(group.hparams["model.hypercolumn"]) == str(expected["model.hypercolumn"]).lower()
        metrics = {metric.name.tag: metric.value for metric in group.metric_values}
        assert metrics == pytest.approx({"score": score_of(number), "seconds": 10 + number})


def test_a_table_is_one_cell_and_hides_no_key(tmp_path):
    mix = {"bce": 0.1, "lovasz_hinge": 0.9}
    log_trial(
        tmp_path / "trial0000",
        {"loss.finish.bce": 0.25, "loss.finish": mix, "optimiser.clip_norm": None},
        {"score": 0.5},
    )
    _, (group,), _ = rows_of(tmp_path)
    assert {key: value(cell) for key, cell in group.hparams.items()} == {
        "loss.finish.bce": 0.25,
        "loss.finish": "bce 0.1, lovasz_hinge 0.9",
        "optimiser.clip_norm": "none",
    }


def test_a_trial_has_one_row_in_the_place_of_its_runs(run):
    log_run(run)
    log_trial(run.path, {"loss.bce": 0.3}, {"score": 0.7})
    experiment, groups, _ = rows_of(run.path)
    assert len(groups) == 1
    assert [column.name for column in experiment.hparam_infos] == ["loss.bce"]
    assert (run.path / "tensorboard" / "curve").is_dir()


@pytest.mark.parametrize(("searched", "metrics"), [({}, {"score": 0.5}), ({"loss.bce": 0.5}, {})])
def test_an_empty_row_is_refused(tmp_path, searched, metrics):
    with pytest.raises(ValueError, match="a searched key and a metric"):
        log_trial(tmp_path, searched, metrics)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def board(tmp_path):
    """TensorBoard over a study; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    logs = study_at(tmp_path / "study")
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(logs),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    with (tmp_path / "tensorboard.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        address = f"http://127.0.0.1:{port}/"
        try:
            _wait_for(address, server)
            yield address
        finally:
            server.terminate()


def _wait_for(address, server):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address + "data/runs", timeout=5) as answer:  # noqa: S310  # our own server
                if answer.read().count(b"fold0") == COUNT:
                    return
        except OSError:
            pass
        time.sleep(0.3)
    pytest.fail("TensorBoard did not come up with all trials")


def test_a_browser_finds_the_trials(tmp_path, board):
    with chromium(tmp_path / "profile") as browser:
        browser.get(f"{board}#hparams")
        names = [f"trial{number:04}" for number in range(COUNT)]

        def shown(browser):
            found = browser.execute_script(EVERYTHING)
            return all(name in found for name in [*names, "schedule.max_lr", "seconds"]) and found

        WebDriverWait(browser, 60).until(shown)
        assert complaints(browser, ("SEVERE",)) == []  # its own code warns of itself
