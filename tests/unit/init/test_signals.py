from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from supervisor.init.signals import HANDLED, Signals
from tests.support.clock import FakeClock


class Log(list[tuple[str, dict[str, object]]]):
    def info(self, event: str, **fields: object) -> None:
        self.append((event, fields))

    warning = info


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def signals(log: Log, clock: FakeClock) -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    signals = Signals(log, monotonic=clock.monotonic)
    signals.install()
    yield signals
    signals.release()
    signals.release()
    assert {number: signal.getsignal(number) for number in HANDLED} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR])
async def test_a_stop_signal_requests_a_stop(signals: Signals, log: Log, number: signal.Signals) -> None:
    signals.attach(asyncio.get_running_loop())
    assert not signals.stop_requested.is_set()
    asyncio.get_running_loop().call_later(0.01, send, number)
    await asyncio.wait_for(signals.wait_stop(), 5)
    assert not signals.urgent.is_set()
    assert log == [("stop requested", {"signal": number.name, "urgent": False})]


async def test_a_stop_that_arrives_before_the_loop_is_not_lost(signals: Signals, log: Log) -> None:
    send(signal.SIGTERM)
    assert signals.stop_requested.is_set()
    assert log == []
    signals.attach(asyncio.get_running_loop())
    await asyncio.wait_for(signals.wait_stop(), 5)
    assert len(log) == 1


async def test_a_second_stop_is_urgent(signals: Signals, clock: FakeClock) -> None:
    signals.attach(asyncio.get_running_loop())
    send(signal.SIGTERM)
    await settle()
    await clock.advance(1)
    send(signal.SIGTERM)
    await asyncio.wait_for(signals.urgent.wait(), 5)


def test_a_second_stop_before_the_loop_is_urgent(signals: Signals) -> None:
    send(signal.SIGTERM)
    asyncio.run(asyncio.sleep(0))
    signals._first_stop = (signals._first_stop or 0) - 1
    send(signal.SIGINT)
    assert signals.urgent.is_set()


async def test_the_same_stop_told_twice_is_not_urgent(signals: Signals, clock: FakeClock) -> None:
    signals.attach(asyncio.get_running_loop())
    send(signal.SIGINT)
    await clock.advance(0.4)
    send(signal.SIGTERM)
    await settle()
    assert signals.stop_requested.is_set()
    assert not signals.urgent.is_set()


async def test_hup_and_usr1_are_swallowed_and_logged(signals: Signals, log: Log) -> None:
    signals.attach(asyncio.get_running_loop())
    send(signal.SIGHUP)
    send(signal.SIGUSR1)
    send(signal.SIGPIPE)
    await settle()
    assert not signals.stop_requested.is_set()
    assert [fields["signal"] for _, fields in log] == ["SIGHUP", "SIGUSR1"]


async def test_usr2_takes_a_snapshot(signals: Signals) -> None:
    taken: list[str] = []
    signals.on_snapshot(lambda: taken.append("now"))
    send(signal.SIGUSR2)
    signals.attach(asyncio.get_running_loop())
    assert taken == ["now"]
    send(signal.SIGUSR2)
    await settle()
    assert taken == ["now", "now"]
    signals.on_snapshot(None)
    send(signal.SIGUSR2)
    await settle()
    assert taken == ["now", "now"]


async def test_the_death_of_a_child_is_told(signals: Signals) -> None:
    died = asyncio.Event()
    signals.on_child(died.set)
    signals.attach(asyncio.get_running_loop())
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    await asyncio.wait_for(died.wait(), 5)


async def test_a_storm_is_told_in_few_words(signals: Signals, log: Log) -> None:
    signals.attach(asyncio.get_running_loop())
    for _ in range(5000):
        send(signal.SIGHUP)
    await settle()
    assert len(log) == 1
    assert 1 <= int(str(log[0][1]["count"])) <= 5000
    send(signal.SIGTERM)
    await asyncio.wait_for(signals.wait_stop(), 5)


async def test_handlers_of_others_on_the_loop_do_not_make_it_deaf(signals: Signals) -> None:
    loop = asyncio.get_running_loop()
    signals.attach(loop)
    loop.add_signal_handler(signal.SIGALRM, lambda: None)
    loop.call_later(0.01, send, signal.SIGTERM)
    await asyncio.wait_for(signals.wait_stop(), 5)
    loop.remove_signal_handler(signal.SIGALRM)


def test_a_signal_that_was_blocked_by_whoever_started_us_is_heard(log: Log) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signals = Signals(log)
    signals.install()
    try:
        send(signal.SIGTERM)
        assert signals.stop_requested.is_set()
    finally:
        signals.release()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


async def test_a_loop_needs_installed_handlers() -> None:
    with pytest.raises(RuntimeError, match="installed"):
        Signals().attach(asyncio.get_running_loop())
