"""`GET /api/admin/activity`: whether this VM may sleep now, and when it is to be woken.

For what starts and stops the VM (the Worker, a scheduler): it cannot see into the agent. The answer:

    {"known": true, "busy": false, "doing": [], "next_wake": 1795601982.3, "phase": "serve", "ready": true,
     "snapshot_pending": false}

`known` is false where the agent does not say (it starts, it is down): then `busy` is true, since a stop is the worse
mistake. `next_wake` is in seconds since 1970, or null. Unsaved changes do not forbid a stop: it seals.
"""

from __future__ import annotations

from aiohttp import web

from supervisor.http.answers import json_answer
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Operations
from supervisor.http.tasks import Unhurried

PATH = "/api/admin/activity"


def add_activity(endpoints: Endpoints, operations: Operations, unhurried: Unhurried) -> None:
    """Add the path."""

    async def answer(request: web.Request) -> web.Response:
        return json_answer(await unhurried.run(operations.activity()))

    endpoints.add("GET", PATH, Access.OPERATOR, answer)
