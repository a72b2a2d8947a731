from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from supervisor.http import peer
from supervisor.http.answers import HttpError
from supervisor.http.auth import Access
from supervisor.http.peer import NotTheAgent, is_local, owner
from tests.support.adversary import connect_from, own_addresses
from tests.unit.http.support import TOKEN, front_door, token_keeper


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield server


def test_a_connection_of_ones_own_is_ones_own(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, address = listener.accept()
        with accepted:
            assert owner(address[:2], accepted.getsockname()[:2]) == os.getuid()
            assert peer._look_up(address[:2], accepted.getsockname()[:2]) == os.getuid()
        assert client.fileno() > 0


def test_a_peer_that_has_hung_up_is_nobody_and_not_root(listener: socket.socket) -> None:
    client = socket.create_connection(listener.getsockname()[:2])
    accepted, address = listener.accept()
    with accepted:
        client.close()
        assert owner(address[:2], accepted.getsockname()[:2]) is None
        assert peer._look_up(address[:2], accepted.getsockname()[:2]) is None


def test_a_connection_that_is_not_there_is_nobodys() -> None:
    assert owner(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


@pytest.mark.root
@pytest.mark.parametrize("client", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_another_users_connection_is_told_from_ones_own(client: str) -> None:
    family = "AF_INET6" if ":" in client else "AF_INET"
    script = (
        f"import os,socket; os.setuid(54321); s=socket.socket(socket.{family}); s.connect(({client!r}, {{}})); input()"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        process = subprocess.Popen([sys.executable, "-c", script.format(port)], stdin=subprocess.PIPE)
        try:
            accepted, address = server.accept()
            with accepted:
                assert owner(address[:2], accepted.getsockname()[:2]) == 54321
                assert peer._look_up(address[:2], accepted.getsockname()[:2]) == 54321
        finally:
            process.communicate(b"\n")


def test_without_netlink_the_table_in_proc_answers(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError("no netlink here")

    monkeypatch.setattr(peer, "_ask_kernel", refuse)
    with socket.create_connection(listener.getsockname()[:2]):
        accepted, address = listener.accept()
        with accepted:
            assert owner(address[:2], accepted.getsockname()[:2]) == os.getuid()


def test_a_connection_of_the_machine_with_itself_is_local_whatever_its_address() -> None:
    assert is_local("127.0.0.1", "127.0.0.1")
    assert is_local("::1", "::1")
    assert is_local("::ffff:127.0.0.1", "::ffff:127.0.0.1")
    assert is_local("10.0.0.5", "10.0.0.5")
    assert not is_local("198.51.100.6", "198.51.100.5")
    assert not is_local("2001:db8::6", "2001:db8::5")
    assert not is_local("::ffff:198.51.100.6", "::ffff:198.51.100.5")


def test_what_arrives_at_a_loopback_address_comes_from_this_machine_whatever_the_peer_calls_itself() -> None:
    assert is_local("198.51.100.6", "127.0.0.1")
    assert is_local("2001:db8::6", "::1")
    assert is_local("::ffff:198.51.100.6", "::ffff:127.0.0.1")


def test_every_address_of_the_machine_is_local_to_every_other() -> None:
    found = own_addresses()
    assert "127.0.0.1" in found
    for address in found:
        plain, _, interface = address.partition("%")
        scope = socket.if_nametoindex(interface) if interface else 0
        assert is_local(plain, "2001:db8::5" if ":" in plain else "198.51.100.5", scope)


@pytest.mark.parametrize(
    ("number", "local"), [(errno.EADDRNOTAVAIL, False), (errno.EMFILE, True), (errno.EACCES, True)]
)
def test_an_address_that_cannot_be_tried_counts_as_the_machines(
    monkeypatch: pytest.MonkeyPatch, number: int, local: bool
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", refuse)
    assert is_local("198.51.100.6", "198.51.100.5") is local


@pytest.mark.parametrize("listening", ["127.0.0.1", "0.0.0.0", "::"])
async def test_the_agent_is_refused_from_every_address_of_the_machine_to_every_other(listening: str) -> None:
    """The test plays the agent, and even knows the operator's token."""
    sources = own_addresses()
    hosts = ["127.0.0.1"] if listening == "127.0.0.1" else sources
    answers: dict[tuple[str, str], bytes] = {}
    async with front_door(keeper=token_keeper(), refuse=NotTheAgent(os.getuid()).check, host=listening) as door:
        head = f"GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        for source in sources:
            for host in hosts:
                try:
                    connection = connect_from(source, host, door.port)
                except OSError:
                    continue  # not of one family, or there is no way from here to there
                connection.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=connection)
                writer.write(head.encode())
                answers[source, host] = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                await writer.wait_closed()
    assert ("127.0.0.1", "127.0.0.1") in answers
    refused = {pair for pair, answer in answers.items() if b'"agent-refused"' in answer}
    # From a global address to a link-local one, the kernel does not say which interface to ask about.
    unknown = {pair for pair, answer in answers.items() if b'"peer-unknown"' in answer and "%" in pair[1]}
    assert set(answers) == refused | unknown


class _Hung:
    """A request whose client is gone before anybody looked."""

    transport = None


def test_a_request_whose_connection_is_gone_is_refused_on_operators_paths() -> None:
    guard = NotTheAgent(54321)
    with pytest.raises(HttpError, match="which user"):
        guard.check(_Hung(), Access.OPERATOR)  # type: ignore[arg-type]
    guard.check(_Hung(), Access.USER)  # type: ignore[arg-type]
    NotTheAgent(None).check(_Hung(), Access.OPERATOR)  # type: ignore[arg-type]
