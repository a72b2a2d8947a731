"""Messages between two WebSockets, until one side closes, nobody says anything for too long, or the daemon ends."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import WSMsgType, web

from supervisor.clock import Clock

LOOK_SECONDS = 5.0
GOING_AWAY, TOO_BIG, RESTARTING = 1001, 1009, 1012

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def carry(
    client: web.WebSocketResponse,
    upstream: aiohttp.ClientWebSocketResponse,
    *,
    clock: Clock,
    idle: float,
    closing: asyncio.Event,
) -> None:
    """Pass messages both ways, at the pace of the slower side; then close both.

    Args:
        idle: seconds without a message.
        closing: the daemon ends.
    """
    spoken = _Spoken(clock)
    ends = [
        asyncio.ensure_future(_pump(client, upstream, spoken)),
        asyncio.ensure_future(_pump(upstream, client, spoken)),
        asyncio.ensure_future(_idled(spoken, clock, idle)),
        asyncio.ensure_future(_told(closing)),
    ]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        code = next(iter(done)).result()
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await upstream.close()
    await client.close(code=code)


class _Spoken:
    """When the last message passed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.monotonic()

    def now(self) -> None:
        self._at = self._clock.monotonic()

    @property
    def ago(self) -> float:
        return self._clock.monotonic() - self._at


async def _pump(source: Socket, target: Socket, spoken: _Spoken) -> int:
    """Pass on what `source` says; returns the code that the client is closed with."""
    while True:
        message = await source.receive()
        spoken.now()
        try:
            if message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            else:  # CLOSE, CLOSING, CLOSED, ERROR
                return TOO_BIG if source.close_code == TOO_BIG else GOING_AWAY
        except (ConnectionError, aiohttp.ClientError):
            return GOING_AWAY


async def _idled(spoken: _Spoken, clock: Clock, idle: float) -> int:
    while (left := idle - spoken.ago) > 0:
        await clock.sleep(min(left + 0.01, LOOK_SECONDS))
    return GOING_AWAY


async def _told(closing: asyncio.Event) -> int:
    await closing.wait()
    return RESTARTING
