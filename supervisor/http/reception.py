"""Who gets in: connections are accepted one by one and counted, so that descriptors never run out.

When the house is full, a connection that waits for a request makes room for a new one. Where none waits, what comes
is answered on the doorstep: the platform's health probes as ever, all else 503; there, too, places are few and the
oldest leaves first.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from supervisor.http.connection import Connection

MAX_CONNECTIONS = 1000
RESERVED_DESCRIPTORS = 160
"""For the bucket, the snapshots, logs and pipes of the agent, and the doorstep."""
DOORSTEP_PLACES = 32

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 45), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""A peer that is gone without a word is found out within two minutes; the kernel's default is two hours."""
_USER_TIMEOUT_MS = 120_000
"""As for what was sent and is not acknowledged (tcp(7), TCP_USER_TIMEOUT)."""


def most_connections() -> int:
    """How many connections the process has descriptors for: each may need one for the agent, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, (soft - RESERVED_DESCRIPTORS) // 2))


class Reception:
    """Accepts on a listening socket, which is closed by `close`.

    Args:
        connect: makes the protocol of one connection, which calls what it is given when it is gone.
        turn_away: answers a connection for which there is no room, and closes it.
    """

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[Callable[[Connection], None]], Connection],
        turn_away: Callable[[socket.socket], Coroutine[Any, Any, None]],
        *,
        limit: int,
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._turn_away = turn_away
        self._limit = limit
        self._inside: set[Connection] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._doorstep: dict[asyncio.Task[None], None] = {}
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(listener, self._accept)

    async def close(self) -> None:
        """Accept no more; what is inside stays."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for task in self._doorstep:
            task.cancel()
        await asyncio.gather(*self._arriving, *self._doorstep, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._inside)

    def _accept(self) -> None:
        for _ in range(16):  # a few at a time: others want the loop, too
            try:
                taken, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Others of this process have used them up: come back, but not in a hot loop.
                    self._loop.remove_reader(self._listener)
                    self._loop.call_later(0.1, self._resume)
                return
            self._admit(taken)

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._accept)

    def _admit(self, taken: socket.socket) -> None:
        taken.setblocking(False)
        if len(self._inside) + len(self._arriving) >= self._limit and not self._make_room():
            self._answer_outside(taken)
            return
        _guard(taken)
        task = self._loop.create_task(self._let_in(taken))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _left(self, connection: Connection) -> None:
        self._inside.discard(connection)

    async def _let_in(self, taken: socket.socket) -> None:
        try:
            _, connection = await self._loop.connect_accepted_socket(lambda: self._connect(self._left), taken)
        except OSError:
            taken.close()  # reset while it was being set up
            return
        if connection.transport is not None:
            self._inside.add(connection)

    def _make_room(self) -> bool:
        waiting = [connection for connection in self._inside if connection.can_make_room()]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda connection: connection.begun_at)
        self._inside.discard(oldest)
        oldest.abort()
        return True

    def _answer_outside(self, taken: socket.socket) -> None:
        if len(self._doorstep) >= DOORSTEP_PLACES:
            next(iter(self._doorstep)).cancel()
        task = self._loop.create_task(self._turn_away(taken))
        self._doorstep[task] = None
        task.add_done_callback(lambda done: self._doorstep.pop(done, None))


def _guard(taken: socket.socket) -> None:
    try:
        for option, value in _KEEPALIVE:
            taken.setsockopt(socket.IPPROTO_TCP, option, value)
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    except OSError:
        pass  # a kernel without it (a sandbox's own network stack): the timers above it remain
