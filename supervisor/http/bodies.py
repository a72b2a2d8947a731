"""A client's request body on its way to the agent: as it arrives, never more in memory than the parser holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from supervisor.http.answers import HttpError

IDLE_SECONDS = 60.0
"""Between two pieces of a body, as nginx's `client_body_timeout`: a phone in a tunnel, but not for ever."""


async def refuse_expectation(request: web.Request) -> None:
    """For aiohttp's router, which would say 100 before anybody has looked at the request.

    Raises:
        HttpError: 417.
    """
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="")


def refuse_codings(request: web.BaseRequest) -> None:
    """Refuse a transfer coding that would be lost on the way, so that the agent would read another body.

    Raises:
        HttpError: 501.
    """
    codings = request.headers.getall("Transfer-Encoding", [])
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked" or request.version < (1, 1)):
        raise HttpError(501, "transfer-coding", "Of transfer codings only chunked is known here.")


async def body_of(request: web.BaseRequest, *, most: int | None = None) -> AsyncIterator[bytes]:
    """The pieces of a body as they arrive. Somebody who waits for `100 Continue` is told so by the first.

    Args:
        most: bytes; None sets no limit.

    Raises:
        HttpError: 400 where the body's framing is broken, 408 where nothing comes any more, 413.
    """
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    content, total = request.content, 0
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await content.readany()
        except TimeoutError as error:
            raise HttpError(408, "body-timeout", f"Nothing more of the body came for {IDLE_SECONDS:g} s.") from error
        except RequestPayloadError as error:
            raise HttpError(400, "bad-body", "The body breaks off, or its framing is broken.") from error
        if not piece:
            return
        total += len(piece)
        if most is not None and total > most:
            raise too_large(most)
        yield piece


def too_large(most: int) -> HttpError:
    """413."""
    return HttpError(413, "body-too-large", f"The body is larger than {most} bytes.")
