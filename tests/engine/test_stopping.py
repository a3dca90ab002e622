from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cell_lm.engine.stopping import SIGNALS, stop_on_signals


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C interrupts, as in a terminal: a shell's background job ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_kills_nothing(number: int) -> None:
    with stop_on_signals() as request:
        assert not request
        os.kill(os.getpid(), number)
        assert request
        assert request.signal == number


def test_the_second_signal_does_what_it_always_did() -> None:
    with stop_on_signals() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert request.signal == signal.SIGTERM


def test_among_several_processes_sigterm_comes_from_all_sides_and_is_one_request() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(launched=True) as request:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert request.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == former


@pytest.mark.parametrize("asked", [False, True])
def test_the_former_handlers_come_back(asked: bool) -> None:
    former = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != former
        if asked:
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == former


def test_outside_the_main_thread_no_handler_is_touched() -> None:
    former, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stop_on_signals() as request:
            seen.append((bool(request), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, former)]
