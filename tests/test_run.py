import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.recipe import load_config
from semisalt.run import RunDirectory, find_run, read_csv, write_csv


def provenance(data: str = "f" * 64) -> dict[str, object]:
    return {"data": data, "source": "somewhere", "seed": 0}


HOLD = """
import sys, time
from pathlib import Path
from semisalt.run import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def begin(run: RunDirectory) -> None:
    run.fold(1).path.mkdir(parents=True)
    run.fold(1).checkpoint.touch()


def test_second_process_is_refused_with_host_and_pid(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(UserError, match=f"in use by pid {holder.pid} on {socket.gethostname()}")
        with refused, RunDirectory(tmp_path).lock():
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with RunDirectory(tmp_path).lock():  # a dead process holds nothing
        assert f"pid {os.getpid()}" in (tmp_path / ".lock").read_text()


def _hold_with_child(path: Path) -> None:
    with RunDirectory(path).lock():
        if os.fork() == 0:
            time.sleep(8)  # as a loader's process, which outlives a killed parent for seconds
            os._exit(0)
        (path / "ready").touch()
        time.sleep(60)


def test_lock_dies_with_the_process_though_its_children_live(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("fork").Process(target=_hold_with_child, args=(tmp_path,))
    holder.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    holder.kill()
    holder.join()
    assert holder.exitcode == -signal.SIGKILL
    with RunDirectory(tmp_path).lock():
        pass


def test_lock_can_be_taken_again_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunDirectory(tmp_path).lock():
        raise RuntimeError
    with RunDirectory(tmp_path).lock():
        pass


def test_create_writes_a_run_and_refuses_an_existing_one(tmp_path: Path) -> None:
    config = load_config(None, ["training.epochs=3"])
    run = RunDirectory.create(tmp_path / "a", config, provenance())
    assert run.config == config
    assert RunDirectory.open(tmp_path / "a").provenance == provenance()
    # Without a checkpoint nothing is lost by beginning anew.
    run = RunDirectory.create(tmp_path / "a", config, provenance())
    begin(run)
    with pytest.raises(UserError, match="already holds a run: add --resume"):
        RunDirectory.create(tmp_path / "a", Config(), provenance())
    assert run.config == config


def test_folds_left_over_from_a_run_are_not_taken_for_a_new_one(tmp_path: Path) -> None:
    """Planted: a run is removed while its process still writes, and begun anew: its folds would go on by themselves."""
    begin(RunDirectory(tmp_path))
    with pytest.raises(UserError, match=r"holds folds of a run whose config\.yaml is gone: remove it"):
        RunDirectory.create(tmp_path, Config(), provenance())


def test_resume_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        RunDirectory.resume(tmp_path, None, "f" * 64)


def test_what_is_no_run_is_told_with_what_may_have_been_meant(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "rounds" / "round1", Config(), provenance())
    RunDirectory.create(tmp_path / "base", Config(), provenance())
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").write_text("")
    (tmp_path / "empty").mkdir()
    for name, told in {
        "bsae": "does not exist; runs there: base",
        "rounds": "name one of the runs in it: round1",
        "study": "it is a study",
        "empty": "it has no config.yaml",
    }.items():
        with pytest.raises(UserError, match=f"{name} is not a run: .*{told}"):
            RunDirectory.open(tmp_path / name)


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, Config(), provenance())
    with pytest.raises(UserError, match="no checkpoint to resume from: start it without --resume"):
        RunDirectory.resume(tmp_path, None, "f" * 64)
    begin(run)
    assert RunDirectory.resume(tmp_path, None, "f" * 64).config == Config()


def test_the_limit_that_stopped_a_training_may_be_lowered(tmp_path: Path) -> None:
    """It changes no training, and is no other recipe; `limit` keeps it for the next time."""
    begin(RunDirectory.create(tmp_path, load_config(None, ["training.batch=4"]), provenance()))
    lowered = load_config(None, ["training.batch=4", "unlabelled.least_salt=0.1"])
    other = load_config(None, ["training.batch=5", "unlabelled.least_salt=0.1"])
    with pytest.raises(UserError, match=r"training\.batch: 4 in the run, 5 asked for$"):
        RunDirectory.resume(tmp_path, other, "f" * 64)
    assert RunDirectory.open(tmp_path).config.unlabelled.least_salt == 0.25
    run = RunDirectory.resume(tmp_path, lowered, "f" * 64)
    assert run.config.unlabelled.least_salt == 0.25  # rank 0 alone writes
    run.limit(0.1)
    assert RunDirectory.resume(tmp_path, None, "f" * 64).config == lowered


def test_resume_shows_what_differs(tmp_path: Path) -> None:
    stored = load_config(None, ["channels.depth=true", "training.precision=bf16"])
    begin(RunDirectory.create(tmp_path, stored, provenance()))
    assert RunDirectory.resume(tmp_path, Config(), "f" * 64).config == stored
    assert RunDirectory.resume(tmp_path, None, "f" * 64).config == stored
    with pytest.raises(UserError) as caught:
        RunDirectory.resume(tmp_path, load_config(None, ["training.batch=4", "seed=3"]), "0" * 64)
    text = str(caught.value)
    assert "training.batch: 20 in the run, 4 asked for" in text
    assert "seed: 0 in the run, 3 asked for" in text
    assert f"fingerprint {'f' * 64} in the run, {'0' * 64} given" in text
    assert "precision" not in text


def test_results_are_missed_politely(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, Config(), provenance())
    with pytest.raises(UserError, match="no results yet"):
        _ = run.results
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        _ = run.results
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="expected a JSON object"):
        _ = run.results


def test_finished_folds_are_those_with_a_result(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, Config(), provenance())
    for fold in (3, 1):
        run.fold(fold).path.mkdir()
        run.fold(fold).result.write_text('{"tiles": 5}')
    run.fold(2).path.mkdir()
    run.fold(2).checkpoint.touch()
    assert run.finished_folds() == [1, 3]
    with pytest.raises(UserError, match="--resume --folds 1,3"):
        _ = run.results
    assert run.fold_result(3) == {"tiles": 5}


def test_find_run_takes_a_bare_name_under_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run("a") == Path("runs/a")
    assert find_run("x/a") == Path("x/a")
    assert find_run(str(tmp_path)) == tmp_path
    RunDirectory.create(Path("a"), Config(), provenance())
    assert find_run("a") == Path("a")


def test_csv_round_trip(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("id", "fold"), [("a,b", 1), ('q"', 2), ("ü\n", 3)])
    assert read_csv(tmp_path / "a.csv") == [
        {"id": "a,b", "fold": "1"},
        {"id": 'q"', "fold": "2"},
        {"id": "ü\n", "fold": "3"},
    ]


def test_a_lock_that_is_held_may_be_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    order: list[str] = []
    run = RunDirectory(tmp_path)

    def later() -> None:
        with run.lock(wait=told.append):
            order.append("second")

    with run.lock():
        waiting = threading.Thread(target=later)
        waiting.start()
        while not told:
            time.sleep(0.01)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert told == [f"waiting for {tmp_path}, which is in use by pid {os.getpid()} on {socket.gethostname()}"]
