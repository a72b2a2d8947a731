"""How the front door says no: `{"error": {"code", "message", "hint"}}`, with a status that fits the error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from supervisor.errors import (
    AgentError,
    Fenced,
    MoltinitError,
    NotFound,
    StoreError,
    StoreUnavailable,
    UnsupportedFormat,
    UsageError,
)

API_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class HttpError(MoltinitError):
    """A request that the front door does not carry out; the status and the code are the request's own."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


_STATUSES: tuple[tuple[type[MoltinitError], int], ...] = (
    (NotFound, 404),
    (UsageError, 409),
    (Fenced, 409),
    (UnsupportedFormat, 409),
    (StoreUnavailable, 503),
    (StoreError, 502),
    (AgentError, 502),
)


def status_of(error: MoltinitError) -> int:
    """The HTTP status of an error; 500 where nothing better is known."""
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_answer(error: MoltinitError) -> web.Response:
    """The answer that carries an error."""
    headers = error.headers if isinstance(error, HttpError) else {}
    return json_answer({"error": error.as_dict()}, status=status_of(error), headers=headers)


def json_answer(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that no cache keeps and no browser takes for anything else."""
    return web.Response(
        body=json.dumps(document).encode() + b"\n",
        status=status,
        content_type="application/json",
        headers={**API_HEADERS, **(headers or {})},
    )
