"""Datagrams to a service manager, read from a real socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.init.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_each_message_is_one_datagram_in_the_protocols_words(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    notifier.ready()
    notifier.status("two\nlines")
    notifier.alive()
    notifier.extend(1.5)
    notifier.stopping()
    said = [manager.recv(1024) for _ in range(5)]
    notifier.close()
    assert said == [b"READY=1", b"STATUS=two lines", b"WATCHDOG=1", b"EXTEND_TIMEOUT_USEC=1500000", b"STOPPING=1"]


def test_an_abstract_name_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel picks an abstract name
        listening.settimeout(5)
        notifier = Notifier("@" + listening.getsockname()[1:].decode())
        notifier.ready()
        assert listening.recv(64) == b"READY=1"
        notifier.close()


def test_the_variables_are_taken_so_that_no_child_speaks_in_our_name() -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    notifier = Notifier.take_from(environment, pid=7)
    assert notifier
    assert notifier.watchdog_seconds == 20.0
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "environment",
    [
        {"NOTIFY_SOCKET": "/run/notify"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "20000000"},
    ],
)
def test_a_watchdog_meant_for_nobody_or_another_is_none(environment: dict[str, str]) -> None:
    assert Notifier.take_from(environment, pid=7).watchdog_seconds == 0


def test_a_manager_that_is_gone_or_busy_holds_nothing_up(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier(manager.getsockname())
    for _ in range(10_000):  # nobody reads: the queue fills up
        notifier.alive()
    notifier.close()
    gone = Notifier(str(tmp_path / "nobody"))
    gone.ready()
    gone.close()
    Notifier().ready()
