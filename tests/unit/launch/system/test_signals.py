"""Requests to stop."""

import os
import signal

import pytest

from ecrl.launch.system.signals import StopRequest, handle_signals
from tests.errors import raises


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_sets_the_flag_and_former_handlers_come_back(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with handle_signals() as stop:
        assert not stop
        os.kill(os.getpid(), signum)
        assert stop.signum == signum
        assert not stop.now
    assert signal.getsignal(signum) is before


def test_a_second_signal_means_now_but_a_terminals_second_sighup_does_not() -> None:
    stop = StopRequest()
    stop.request(signal.SIGHUP)
    stop.request(signal.SIGHUP)
    assert not stop.now
    stop.request(signal.SIGINT)
    assert (stop.signum, stop.now) == (signal.SIGHUP, True)


def test_check_raises_with_the_exit_code_of_the_signal() -> None:
    stop = StopRequest()
    stop.raise_if_requested("go on")
    stop.request(signal.SIGTERM)
    with raises("ECRL-312", "SIGTERM", "go on") as stopped:
        stop.raise_if_requested("go on")
    assert stopped.value.exit_code == 143


def test_an_ignored_sighup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)
