import subprocess
import sys
from pathlib import Path

import pytest

CALL = """
import sys
from semisalt.cli import main
try:
    main()
finally:
    print(sorted({"torch", "scipy"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["show", "nope"],
        ["predict", "nope"],
        ["compare", "nope", "other"],
        ["mosaic", "show", "--run", "nope"],
        ["baseline", "--from", "nope"],
        ["baseline", "--run", "nope", "--resume"],
        ["teacher", "--config", "nope.yaml"],
        ["pseudo", "--from", "nope"],
        ["pseudo", "inspect", "nope"],
        ["study", "status", "nope"],
    ],
    ids=" ".join,
)
def test_a_name_of_nothing_is_reported_without_waiting_for_torch(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "nope" in done.stderr
    assert done.stdout.strip() == "[]"
