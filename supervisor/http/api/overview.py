"""What an operator reads: status, metrics, problems, settings, the audit log, and the description of all this."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from supervisor.http.about import About, Answer, Parameter
from supervisor.http.answers import json_answer
from supervisor.http.api import schemas
from supervisor.http.api.reading import number
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Document, Operations

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_AUDIT_ENTRIES = 1000


class OverviewApi:
    """See the module.

    Args:
        description: the OpenAPI document.
    """

    def __init__(self, operations: Operations, description: Callable[[], Document]) -> None:
        self._operations = operations
        self._description = description

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""
        for where, handler, about in (
            ("/status", self.status, STATUS),
            ("/metrics", self.metrics, METRICS),
            ("/api/admin/problems", self.problems, PROBLEMS),
            ("/api/admin/config", self.config, CONFIG),
            ("/api/admin/audit", self.audit, AUDIT),
            ("/api/admin/openapi.json", self.openapi, OPENAPI),
        ):
            endpoints.add("GET", where, Access.OPERATOR, handler, about)

    async def status(self, request: web.Request) -> web.Response:
        return json_answer(self._operations.status())

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._operations.metrics(),
            headers={"Content-Type": METRICS_CONTENT_TYPE, "Cache-Control": "no-store"},
        )

    async def problems(self, request: web.Request) -> web.Response:
        return json_answer({"problems": self._operations.problems()})

    async def config(self, request: web.Request) -> web.Response:
        return json_answer({"settings": self._operations.config()})

    async def audit(self, request: web.Request) -> web.Response:
        limit = number(request, "limit", default=100, most=MAX_AUDIT_ENTRIES)
        return json_answer({"entries": self._operations.audit(limit)})

    async def openapi(self, request: web.Request) -> web.Response:
        return json_answer(self._description())


_STATUS = schemas.of(
    {
        "phase": schemas.TEXT,
        "ready": schemas.FLAG,
        "problems": {"type": "array", "items": schemas.reference("Problem")},
        "agent": {"type": "object"},
        "snapshots": {"type": "object"},
        "bucket": {"type": "object"},
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
        "isolation": {"type": "array", "items": {"type": "object"}},
    },
    more=True,
)

STATUS = About("The whole picture.", "overview", {200: Answer("docs/observability.md explains it.", _STATUS)})
METRICS = About("Metrics for Prometheus.", "overview", {200: Answer("Text format 0.0.4.", schemas.TEXT, "text/plain")})
PROBLEMS = About(
    "What is wrong right now, the oldest first.",
    "overview",
    {200: Answer("The list; empty where all is well.", schemas.listing("problems", schemas.reference("Problem")))},
)
CONFIG = About(
    "The effective settings and where each came from; secrets are masked.",
    "overview",
    {
        200: Answer(
            "All of them.",
            schemas.listing(
                "settings", schemas.of({"name": schemas.TEXT, "value": schemas.TEXT, "origin": schemas.TEXT})
            ),
        )
    },
)
AUDIT = About(
    "Who asked for what, when, and what became of it; newest first.",
    "overview",
    {200: Answer("The newest entries.", schemas.listing("entries", schemas.reference("AuditEntry")))},
    query=(Parameter("limit", schemas.NUMBER, f"How many; 100 without, at most {MAX_AUDIT_ENTRIES}."),),
)
OPENAPI = About("This description.", "overview", {200: Answer("OpenAPI 3.1.", {"type": "object"})})
