"""What the agent is told when the broker itself says no: in the shape of the provider's own errors, so that the agent
shows it instead of choking on it.

`x-should-retry` is understood by Anthropic's and OpenAI's clients. A refusal that lasts for hours has no `retry-after`:
OpenClaw would sit out the whole wait, and shows the message only where there is none.
"""

from __future__ import annotations

import json

from supervisor.broker.budget import Refusal, Window
from supervisor.broker.providers import Dialect

LONGEST_WAIT = 60
"""Seconds; a client does better to fail than to wait longer."""
PENDING_WAIT = 5
"""Seconds until requests that are under way may have ended."""

_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
}
_OPENAI = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    429: "rate_limit_exceeded",
}
_GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class BrokerError(Exception):
    """The broker answers in the provider's place."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, retry: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.retry = retry

    def headers(self) -> dict[str, str]:
        """Of the answer."""
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if not self.retry:
            headers["x-should-retry"] = "false"
        return headers

    def body(self, dialect: Dialect) -> bytes:
        """Of the answer."""
        return error_body(dialect, self.status, self.message)


def over_budget(refusal: Refusal) -> BrokerError:
    """A limit is reached."""
    if refusal.pending:
        return BrokerError(429, refusal.message, retry_after=PENDING_WAIT)
    brief = refusal.window is Window.MINUTE and refusal.seconds <= LONGEST_WAIT
    return BrokerError(429, refusal.message, retry_after=refusal.seconds if brief else None, retry=brief)


def error_body(dialect: Dialect, status: int, message: str) -> bytes:
    """An error as the provider would word it (Anthropic: `type`; OpenAI: `error.code`; Google: `error.status`)."""
    if dialect is Dialect.ANTHROPIC:
        document: object = {"type": "error", "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": message}}
    elif dialect is Dialect.GOOGLE:
        status_name = _GOOGLE.get(status, "INTERNAL")
        document = {"error": {"code": status, "message": message, "status": status_name}}
    else:
        kind = _OPENAI.get(status, "server_error")
        document = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
    return json.dumps(document, ensure_ascii=False).encode()
