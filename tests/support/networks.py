"""Two network namespaces with a wire between them: a VM's, and the rest of the world's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from tests.support.namespaces import REPOSITORY

_ANSWER = """
import socket, sys, threading
def serve(host, port):
    server = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    while True:
        server.accept()[0].close()
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    threading.Thread(target=serve, args=(host, port), daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""


class Networks:
    """Commands in either of them."""

    def __init__(self, vm: int, world: int) -> None:
        self._pids = {"vm": vm, "world": world}
        self._servers: list[subprocess.Popen[str]] = []

    def command(self, where: str, *arguments: str) -> list[str]:
        """How to run something in there."""
        return ["nsenter", "-t", str(self._pids[where]), "-n", *arguments]

    def run(self, where: str, *arguments: str) -> str:
        """Run it there; its output."""
        done = subprocess.run(
            self.command(where, *arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def serve(self, where: str, places: Sequence[str]) -> None:
        """Accept connections at these addresses, `host:port`."""
        server = subprocess.Popen(
            self.command(where, sys.executable, "-c", _ANSWER, *places),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"

    def close(self) -> None:
        """End the servers."""
        for server in self._servers:
            server.kill()
            server.wait()
            for stream in (server.stdin, server.stdout):
                if stream is not None:
                    stream.close()


@contextmanager
def networks(addresses: Sequence[str]) -> Iterator[Networks]:
    """The VM is 10.9.9.2 and has everything else behind its wire, where `addresses` are."""
    for program in ("unshare", "nsenter", "ip", "nft"):
        if shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"{program} is not installed")
    holders = [subprocess.Popen(["unshare", "-n", "sleep", "120"]) for _ in range(2)]
    try:
        time.sleep(0.3)
        both = Networks(holders[0].pid, holders[1].pid)
        pair = ("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(holders[1].pid))
        both.run("vm", *pair)
        for where in ("vm", "world"):
            both.run(where, "ip", "link", "set", "lo", "up")
            both.run(where, "ip", "link", "set", "wire", "up")
        both.run("vm", "ip", "addr", "add", "10.9.9.2/24", "dev", "wire")
        both.run("vm", "ip", "-6", "addr", "add", "fd09::2/64", "dev", "wire", "nodad")
        both.run("world", "ip", "addr", "add", "10.9.9.1/24", "dev", "wire")
        both.run("world", "ip", "-6", "addr", "add", "fd09::1/64", "dev", "wire", "nodad")
        both.run("vm", "ip", "route", "add", "default", "via", "10.9.9.1")
        both.run("vm", "ip", "-6", "route", "add", "default", "via", "fd09::1")
        for address in addresses:
            both.run("world", "ip", "addr", "add", address, "dev", "lo", *(("nodad",) if ":" in address else ()))
        try:
            yield both
        finally:
            both.close()
    finally:
        for holder in holders:
            with suppress(ProcessLookupError):
                holder.kill()
            holder.wait()
