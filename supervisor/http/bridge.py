"""A WebSocket bridged both ways: messages, pings and the close, each as the other side sent it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from supervisor.concurrency import task_group

MAX_MESSAGE_BYTES = 26 * 1024 * 1024
"""OpenClaw 2026.9.6 states a `maxPayload` of 25 MiB in its hello."""

Socket = web.WebSocketResponse | ClientWebSocketResponse

_NORMAL = 1000
_GOING_AWAY = 1001
_POLICY = 1008
_TOO_BIG = 1009
_RESTARTING = 1012
_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame holds 125 bytes, two of them the code."""


@dataclass(frozen=True, slots=True)
class Patience:
    """With a side that says nothing.

    Args:
        ping: seconds of silence after which it is pinged; below the idle limit of proxies on the way (Cloudflare: 100).
        dead: seconds of silence after which it is given up.
        controls: pings and pongs that a side may send within `window` seconds.
    """

    ping: float = 30.0
    dead: float = 90.0
    controls: int = 200
    window: float = 10.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a bridge ends: what both sides are told."""

    code: int
    reason: bytes = b""


@dataclass(slots=True)
class _Side:
    """One side, and what is known of its being alive. `lost` is the other side's close code where it is lost."""

    socket: Socket
    lost: int
    progress: Callable[[], int] = lambda: 0
    listening: bool = False
    """Whether its next message is waited for: while one is being delivered, its silence is ours."""
    heard_at: float = 0.0
    seen: int = 0
    controls: int = 0
    window_began: float = 0.0
    mark: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    """The payload of our own pings: the answers to them end here."""


async def bridge(
    client: web.WebSocketResponse,
    agent: ClientWebSocketResponse,
    closing: asyncio.Event,
    *,
    patience: Patience,
    client_progress: Callable[[], int] = lambda: 0,
) -> None:
    """Carry messages until one side closes or is gone, or until `closing` is set; then close both alike.

    Args:
        client_progress: a number that grows with each byte of the client's, while its message is not whole yet.
    """
    sides = _Side(client, _GOING_AWAY, client_progress), _Side(agent, _RESTARTING)
    try:
        ending = await _carry(*sides, closing, patience)
    except asyncio.CancelledError:
        # The server cancels the handler of a client that is gone.
        await agent.close(code=_GOING_AWAY)
        raise
    except ConnectionError:
        ending = Ending(_RESTARTING if agent.closed else _GOING_AWAY)
    async with task_group() as group:
        for side in (client, agent):
            group.create_task(side.close(code=ending.code, message=ending.reason))


async def _carry(client: _Side, agent: _Side, closing: asyncio.Event, patience: Patience) -> Ending:
    async with task_group() as group:
        ends = [
            group.create_task(_pump(client, agent, patience)),
            group.create_task(_pump(agent, client, patience)),
            group.create_task(_told(closing)),
            group.create_task(_watch((client, agent), patience)),
        ]
        done, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
    return next(task.result() for task in ends if task in done)


async def _told(closing: asyncio.Event) -> Ending:
    await closing.wait()
    return Ending(_RESTARTING, b"the front door is closing")


async def _watch(sides: tuple[_Side, _Side], patience: Patience) -> Ending:
    """Ping a side that is silent, and give up one that does not even answer that."""
    now = asyncio.get_running_loop().time
    for side in sides:
        side.heard_at = now()
    while True:
        await asyncio.sleep(patience.ping / 2)
        for side in sides:
            progress = side.progress()
            if not side.listening or progress != side.seen:
                side.heard_at, side.seen = now(), progress
            silence = now() - side.heard_at
            if silence >= patience.dead:
                return Ending(side.lost, b"no answer to pings")
            if silence >= patience.ping:
                await side.socket.ping(side.mark)


async def _pump(source: _Side, target: _Side, patience: Patience) -> Ending:
    """Pass on what `source` says until it ends."""
    now = asyncio.get_running_loop().time
    to = target.socket
    while True:
        source.listening = True
        message = await source.socket.receive()
        source.listening = False
        source.heard_at = now()
        kind = message.type
        if kind is WSMsgType.TEXT:
            await to.send_str(message.data)
        elif kind is WSMsgType.BINARY:
            await to.send_bytes(message.data)
        elif kind is WSMsgType.PING or kind is WSMsgType.PONG:
            if _floods(source, patience):
                return Ending(_POLICY, b"too many pings")
            if kind is WSMsgType.PING:
                await to.ping(message.data)
            elif bytes(message.data) != source.mark:
                await to.pong(message.data)
        elif kind is WSMsgType.CLOSE:
            return Ending(_sendable(message.data, source.lost), _fitting(message.extra))
        else:  # CLOSING, CLOSED, ERROR: the connection is lost, or broke the protocol
            return Ending(_TOO_BIG if source.socket.close_code == _TOO_BIG else source.lost)


def _floods(side: _Side, patience: Patience) -> bool:
    if side.heard_at - side.window_began > patience.window:
        side.window_began, side.controls = side.heard_at, 0
    side.controls += 1
    return side.controls > patience.controls


def _sendable(code: int | None, lost: int) -> int:
    """A close code that may be sent (RFC 6455, section 7.4)."""
    if not code or code == 1005:
        return _NORMAL  # closed without a code
    # 1004, 1006 and 1015 are never sent by those who keep the rules, nor is anything from 5000 on.
    return lost if code in (1004, 1006, 1015) or code >= 5000 else code


def _fitting(reason: str | None) -> bytes:
    return (reason or "").encode()[:_REASON_BYTES].decode(errors="ignore").encode()
