"""The probes of the platform: open to everyone, answered from memory, without secrets."""

from __future__ import annotations

from aiohttp import web

from supervisor.http.answers import json_answer
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Document, Operations


def add_health(endpoints: Endpoints, operations: Operations) -> None:
    """Add `/livez`, `/readyz` and `/startupz` (GET and HEAD)."""

    async def live(request: web.Request) -> web.Response:
        return json_answer(operations.liveness())

    async def ready(request: web.Request) -> web.Response:
        return _verdict(*operations.readiness())

    async def started(request: web.Request) -> web.Response:
        return _verdict(*operations.startup())

    endpoints.add("GET", "/livez", Access.OPEN, live)
    endpoints.add("GET", "/readyz", Access.OPEN, ready)
    endpoints.add("GET", "/startupz", Access.OPEN, started)


def _verdict(ok: bool, document: Document) -> web.Response:
    return json_answer(document, status=200 if ok else 503)
