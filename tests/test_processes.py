"""Several processes find each other, or say that they did not; what the first refuses, all refuse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from semisalt.errors import UserError
from semisalt.processes import join

SCRIPT = """
import sys
from semisalt.errors import RefusedError, UserError
from semisalt.processes import by_main, joined, part

accelerator = joined()
done = []
by_main(accelerator, lambda: done.append(1))

def refuse(kind):
    raise kind("no tile was taken")

for kind in (UserError, RefusedError):
    try:
        by_main(accelerator, lambda: refuse(kind))
    except UserError as error:
        # One write each: lines of two processes must not mix.
        who = f"{accelerator.process_index} of {accelerator.num_processes}"
        sys.stdout.write(f"{who}: {len(done)} {type(error).__name__} {error}\\n")
part()
"""


def test_processes_that_are_not_joined_do_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's state is that of one alone, whatever torchrun is said to have started."""
    join()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started 2 processes, which cannot train together on"):
        join()


def test_a_refusal_of_the_first_process_reaches_the_others(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [
        "0 of 2: 1 RefusedError no tile was taken",
        "0 of 2: 1 UserError no tile was taken",
        "1 of 2: 0 RefusedError no tile was taken",
        "1 of 2: 0 UserError no tile was taken",
    ]
