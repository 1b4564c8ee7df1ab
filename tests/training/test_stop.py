import os
import signal
import threading

from semisalt.training.stop import on_sigterm


def test_sigterm_is_noted_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with on_sigterm() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_get_a_wish_that_never_comes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    asked = []

    def work() -> None:
        with on_sigterm() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
    assert signal.getsignal(signal.SIGTERM) is before
