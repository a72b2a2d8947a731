"""The first answer: a responder on plain asyncio that holds the port until aiohttp is imported.

Platforms give a container about twenty seconds to bind its port, and a liveness probe comes within one;
importing aiohttp alone takes half of that. The listening socket is never closed on the way: `hand_over` stops
accepting and gives it on, and what arrives in between waits in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable

from supervisor.errors import SettingsError
from supervisor.http import pages

BACKLOG = 128
MAX_CONNECTIONS = 64
"""Beyond this, connections wait in the kernel's queue."""
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 5.0
LINGER_SECONDS = 1.0
"""A request body that nobody reads would turn the close into a reset, and the answer would be lost."""
LINGER_BYTES = 1024 * 1024

_REASONS = {200: "OK", 400: "Bad Request", 405: "Method Not Allowed", 503: "Service Unavailable"}
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_HEALTH_PATHS = ("/livez", "/readyz", "/startupz")


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Raises:
        SettingsError: the address is in use, or is none of this machine's; the error names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` means every address of the machine, IPv4 too, whatever the kernel's default.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise SettingsError(
            f"Cannot listen on {shown}: {error.strerror or error}.",
            hint="Stop what uses the address, or choose another one with MOLTINIT_LISTEN.",
        ) from error
    return listener


class EarlyResponder:
    """Answers health probes, and 503 to everything else, on a socket that it does not own.

    Args:
        listener: a listening, non-blocking socket.
        phase: the state of the boot, asked for each answer.
    """

    def __init__(
        self,
        listener: socket.socket,
        phase: Callable[[], str],
        *,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._listener = listener
        self._phase = phase
        self._request_seconds = request_seconds
        self._answers: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._done = False

    def start(self) -> None:
        """Accept from now on; needs a running event loop."""
        if not self._accepting and not self._done:
            self._accepting = True
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def hand_over(self) -> socket.socket:
        """Stop accepting and give the socket on, at once: a dawdling client must not hold up the boot."""
        self._done = True
        self._pause()
        return self._listener

    async def finished(self) -> None:
        """What was accepted before the hand-over is answered; takes at most the time of one request."""
        while self._answers:
            await asyncio.wait(self._answers)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._listener)

    def _accept(self) -> None:
        # A callback accepts, not a coroutine: a cancelled `sock_accept` can lose what it already took.
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            # Out of descriptors: try again when the loop comes round, not in a hot loop.
            self._pause()
            asyncio.get_running_loop().call_later(0.1, self.start)
            return
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._answer(connection))
        self._answers.add(task)
        task.add_done_callback(self._answered)
        if len(self._answers) >= MAX_CONNECTIONS:
            self._pause()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answers.discard(task)
        self.start()

    async def _answer(self, connection: socket.socket) -> None:
        await answer_once(connection, lambda head: respond(head, self._phase()), seconds=self._request_seconds)


async def answer_once(connection: socket.socket, answer: Callable[[bytes], bytes], *, seconds: float) -> None:
    """Read one request's head, send what `answer` makes of it, and close the connection.

    Args:
        seconds: how long the client may take for all of it.
    """
    loop = asyncio.get_running_loop()
    with connection:
        try:
            async with asyncio.timeout(seconds):
                head = await _read_head(connection)
                if head:
                    await loop.sock_sendall(connection, answer(head))
                    connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECONDS):
                await _discard(connection)
        except (OSError, TimeoutError):
            return  # the client left or dawdles: nobody is waiting for an answer


async def _read_head(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head and len(head) <= MAX_REQUEST_BYTES:
        received = await loop.sock_recv(connection, 4096)
        if not received:
            return b""
        head += received
    return head


async def _discard(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES
    while left > 0 and (received := await loop.sock_recv(connection, 65536)):
        left -= len(received)


Health = Callable[[str], tuple[int, dict[str, object]]]
"""From a probe's path to status and document."""


def respond(head: bytes, phase: str, health: Health | None = None, *, busy: bool = False) -> bytes:
    """The whole answer to a request head; the connection is closed after it.

    Args:
        health: what the probes are told; None says that the daemon starts.
        busy: there is an agent, but no place for the connection.
    """
    method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
    target, _, version = rest.partition(" ")
    if b"\r\n\r\n" not in head or not version.startswith("HTTP/1.") or not target.startswith("/"):
        return _assemble(400, _JSON, b'{"error":{"code":"bad-request"}}\n')
    path = target.partition("?")[0]
    with_body = method != "HEAD"
    if path in _HEALTH_PATHS:
        if method not in ("GET", "HEAD"):
            return _assemble(405, {"Allow": "GET, HEAD"}, b"")
        status, document = health(path) if health is not None else _starting(path, phase)
        return _assemble(status, _JSON, json.dumps(document).encode() + b"\n", with_body=with_body)
    if with_body and not busy and b"text/html" in _accepted(head):
        return _assemble(503, pages.HEADERS, pages.waiting_page(phase))
    code, message = ("busy", "Too many connections.") if busy else ("agent-unavailable", f"Starting (phase {phase}).")
    document = {"error": {"code": code, "message": message, "hint": "Try again in a moment."}}
    retry = {**_JSON, "Retry-After": str(pages.REFRESH_SECONDS)}
    return _assemble(503, retry, json.dumps(document).encode() + b"\n", with_body=with_body)


def _accepted(head: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"accept":
            return value.lower()
    return b""


def _starting(path: str, phase: str) -> tuple[int, dict[str, object]]:
    if path == "/livez":
        return 200, {"ok": True, "phase": phase}
    failing = [{"code": "starting", "message": f"The daemon is starting (phase {phase})."}]
    return 503, {"ok": False, "phase": phase, "failing": failing}


def _assemble(status: int, headers: dict[str, str], body: bytes, *, with_body: bool = True) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body if with_body else b"")
