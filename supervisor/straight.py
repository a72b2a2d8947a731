"""An HTTP client that goes where it was sent and nowhere else.

aiohttp follows redirects of a WebSocket's handshake, and has no switch for it. Whoever answers may be an agent that
belongs to somebody else by now, and could send the daemon, with its rights and its network, to any address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp


def straight() -> aiohttp.TraceConfig:
    """For `ClientSession(trace_configs=[...])`: a redirect fails with `aiohttp.ClientError` before it is followed."""
    import aiohttp

    async def refuse(session: aiohttp.ClientSession, context: Any, parameters: Any) -> None:
        raise aiohttp.ClientError("the answer is a redirect, which is never followed")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config
