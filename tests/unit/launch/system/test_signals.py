"""Requests to stop."""

import os
import signal

import pytest

from ecrl.launch.system.signals import HANDLED, StopRequest, exit_on_interrupt, handle_signals
from tests.errors import raises


@pytest.mark.parametrize("signum", HANDLED)
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


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_a_schedulers_repeated_warning_does_not_take_the_workers_grace_period(signum: signal.Signals) -> None:
    stop = StopRequest()
    stop.request(signum)
    stop.request(signum)
    assert (stop.signum, stop.now) == (signum, False)


@pytest.mark.parametrize("signum", HANDLED)
def test_every_such_signal_ends_a_command_without_workers_with_its_own_exit_code(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with raises("ECRL-312", signum.name) as stopped, exit_on_interrupt():
        signal.raise_signal(signum)
    assert stopped.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before


def test_check_raises_with_the_exit_code_of_the_signal() -> None:
    stop = StopRequest()
    stop.raise_if_requested("go on")
    stop.request(signal.SIGTERM)
    with raises("ECRL-312", "SIGTERM", "go on") as stopped:
        stop.raise_if_requested("go on")
    assert stopped.value.exit_code == 143


@pytest.mark.parametrize("signum", HANDLED)
def test_an_ignored_signal_stays_ignored_unless_ecrl_itself_sends_it(signum: signal.Signals) -> None:
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        with handle_signals() as stop:
            os.kill(os.getpid(), signum)
            assert bool(stop) is (signum in (signal.SIGINT, signal.SIGTERM))
    finally:
        signal.signal(signum, before)
