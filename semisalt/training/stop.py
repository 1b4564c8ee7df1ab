"""SIGTERM as a wish: the loop saves at the next step, then leaves with 143."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether SIGTERM has arrived."""

    asked: bool = False


@contextmanager
def on_sigterm() -> Iterator[StopRequest]:
    """Note SIGTERM instead of dying from it, while the block runs. Only the main thread may set handlers."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(_signal: int, _frame: FrameType | None) -> None:
        request.asked = True

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, previous)
