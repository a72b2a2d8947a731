from __future__ import annotations

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
    assert not is_local("10.0.0.6", "10.0.0.5")


class _Hung:
    """A request whose client is gone before anybody looked."""

    transport = None


def test_a_request_whose_connection_is_gone_is_refused_on_operators_paths() -> None:
    guard = NotTheAgent(54321)
    with pytest.raises(HttpError, match="which user"):
        guard.check(_Hung(), Access.OPERATOR)  # type: ignore[arg-type]
    guard.check(_Hung(), Access.USER)  # type: ignore[arg-type]
    NotTheAgent(None).check(_Hung(), Access.OPERATOR)  # type: ignore[arg-type]
