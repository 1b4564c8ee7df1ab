"""`semisalt WORDS…` as often as asked for, each in a fork of a process that has imported the libraries already.

Importing them takes several seconds, most of what is run here hardly longer. A fork is a process like any other, with
its own folder, environment and files; only the seed of Python's hashes is the same in all of them, so that tests of
equality after a kill hold at least one process of its own against them.

Orders come as lines of JSON; of each the fork's exit code is answered.
"""

import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any

# Not semisalt itself: what it reads from its environment it shall read in the fork.
LIBRARIES = ("accelerate", "albumentations", "scipy.stats", "segmentation_models_pytorch", "torch.utils.tensorboard")
LONGEST = 300  # seconds


def main() -> None:
    """Serve until the orders end."""
    for name in LIBRARIES:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def run(order: dict[str, Any]) -> None:
    """Become the command; ends as it does, or by a signal where it takes too long."""
    signal.alarm(LONGEST)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for descriptor, file in ((0, os.devnull), (1, order["output"]), (2, order["errors"])):
        os.dup2(os.open(file, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["semisalt", *order["words"]]
    runpy.run_module("semisalt", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
