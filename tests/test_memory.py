"""Run in processes of their own: the setting cannot be taken back."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from semisalt.memory import keep_freed_memory
if {keep}: assert keep_freed_memory()
for _ in range(20): torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*, keep: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_blocks_are_not_mapped_anew() -> None:
    # Blocks of 80 MB, which glibc always maps anew; kept, their pages are touched before the count begins. The heap may
    # still grow by a block now and then, where a smaller one came to lie in the way.
    assert page_faults(keep=True) < page_faults(keep=False) / 3
