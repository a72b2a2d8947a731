"""A WebSocket bridged both ways: messages, pings and the close, each as the other side sent it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from supervisor.concurrency import task_group

MAX_MESSAGE_BYTES = 26 * 1024 * 1024
"""OpenClaw 2026.9.6 states a `maxPayload` of 25 MiB in its hello."""

Socket = web.WebSocketResponse | ClientWebSocketResponse

_NORMAL = 1000
_GOING_AWAY = 1001
_TOO_BIG = 1009
_RESTARTING = 1012
_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame holds 125 bytes, two of them the code."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a bridge ends: what both sides are told."""

    code: int
    reason: bytes = b""


async def bridge(client: web.WebSocketResponse, agent: ClientWebSocketResponse, closing: asyncio.Event) -> None:
    """Carry messages until one side closes or is gone, or until `closing` is set; then close both alike."""
    try:
        ending = await _carry(client, agent, closing)
    except asyncio.CancelledError:
        # The server cancels the handler of a client that is gone.
        await agent.close(code=_GOING_AWAY)
        raise
    except ConnectionError:
        ending = Ending(_RESTARTING if agent.closed else _GOING_AWAY)
    async with task_group() as group:
        for side in (client, agent):
            group.create_task(side.close(code=ending.code, message=ending.reason))


async def _carry(client: web.WebSocketResponse, agent: ClientWebSocketResponse, closing: asyncio.Event) -> Ending:
    async with task_group() as group:
        ends = [
            group.create_task(_pump(client, agent, lost=_GOING_AWAY)),
            group.create_task(_pump(agent, client, lost=_RESTARTING)),
            group.create_task(_told(closing)),
        ]
        done, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
    return next(task.result() for task in ends if task in done)


async def _told(closing: asyncio.Event) -> Ending:
    await closing.wait()
    return Ending(_RESTARTING, b"the front door is closing")


async def _pump(source: Socket, target: Socket, *, lost: int) -> Ending:
    """Pass on what `source` says until it ends; `lost` is the code where it ends without one."""
    while True:
        message = await source.receive()
        kind = message.type
        if kind is WSMsgType.TEXT:
            await target.send_str(message.data)
        elif kind is WSMsgType.BINARY:
            await target.send_bytes(message.data)
        elif kind is WSMsgType.PING:
            await target.ping(message.data)
        elif kind is WSMsgType.PONG:
            await target.pong(message.data)
        elif kind is WSMsgType.CLOSE:
            return Ending(_sendable(message.data), _fitting(message.extra))
        else:  # CLOSING, CLOSED, ERROR: the connection is lost, or broke the protocol
            return Ending(_TOO_BIG if source.close_code == _TOO_BIG else lost)


def _sendable(code: int | None) -> int:
    # A close without a code arrives as 0; 1005, 1006 and 1015 are never sent (RFC 6455, section 7.4.1).
    return code if code and code not in (1004, 1005, 1006, 1015) else _NORMAL


def _fitting(reason: str | None) -> bytes:
    return (reason or "").encode()[:_REASON_BYTES].decode(errors="ignore").encode()
