"""`GET /api/admin/activity`: whether this VM may sleep now, and when it is to be woken.

For what starts and stops the VM (the Worker, a scheduler): it cannot see into the agent. Unsaved changes do not forbid
a stop: it seals.
"""

from __future__ import annotations

from aiohttp import web

from supervisor.http.about import About, Answer
from supervisor.http.answers import json_answer
from supervisor.http.api import schemas
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Operations
from supervisor.http.tasks import Unhurried


class ActivityApi:
    """See the module."""

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._operations = operations
        self._unhurried = unhurried

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the path."""
        endpoints.add("GET", "/api/admin/activity", Access.OPERATOR, self.activity, ACTIVITY)

    async def activity(self, request: web.Request) -> web.Response:
        return json_answer(await self._unhurried.run(self._operations.activity()))


ACTIVITY = About(
    "May this machine sleep, and when is it to be woken?",
    "agent",
    {
        200: Answer(
            "What the agent says; where it does not (it starts, it is down), `known` is false and `busy` true.",
            schemas.of(
                {
                    "known": schemas.FLAG,
                    "busy": {**schemas.FLAG, "description": "A stop would cut something short."},
                    "doing": {"type": "array", "items": schemas.TEXT},
                    "next_wake": schemas.MAYBE_SECONDS,
                    "phase": schemas.TEXT,
                    "ready": schemas.FLAG,
                    "snapshot_pending": schemas.FLAG,
                }
            ),
        )
    },
)
