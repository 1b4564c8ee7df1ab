"""What the first of several processes refuses, all refuse: none is left waiting."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from accelerate import Accelerator
from semisalt.errors import UserError
from semisalt.pseudo.rounds import _by_main

accelerator = Accelerator(cpu=True)
done = []
_by_main(accelerator, lambda: done.append(1))

def refuse():
    raise UserError("no tile was taken")

try:
    _by_main(accelerator, refuse)
except UserError as error:
    # One write each: lines of two processes must not mix.
    sys.stdout.write(f"{accelerator.process_index} of {accelerator.num_processes}: {len(done)} {error}\\n")
"""


def test_a_refusal_of_the_first_process_reaches_the_others(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == ["0 of 2: 1 no tile was taken", "1 of 2: 0 no tile was taken"]
