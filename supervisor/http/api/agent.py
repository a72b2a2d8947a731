"""The agent's life in an operator's hands: stop, start, restart, out of safe mode; maintenance; its devices."""

from __future__ import annotations

from aiohttp import web

from supervisor.http.about import About, Answer, Parameter, Schema
from supervisor.http.answers import json_answer
from supervisor.http.api import schemas
from supervisor.http.api.reading import (
    MAX_NAME_CHARACTERS,
    MAX_NOTE_CHARACTERS,
    NAME_PATTERN,
    document,
    flag,
    label,
    text,
)
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Document, Operations

HEALTHY = "healthy"


class AgentApi:
    """See the module."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""
        for method, where, handler, about in (
            ("POST", "/api/admin/agent/stop", self.stop, STOP),
            ("POST", "/api/admin/agent/start", self.start, START),
            ("POST", "/api/admin/agent/restart", self.restart, RESTART),
            ("POST", "/api/admin/agent/leave-safe-mode", self.leave_safe_mode, LEAVE),
            ("GET", "/api/admin/maintenance", self.maintenance, MAINTENANCE),
            ("PUT", "/api/admin/maintenance", self.set_maintenance, SET_MAINTENANCE),
            ("POST", "/api/admin/devices/{requestId}/reject", self.reject, REJECT),
            ("DELETE", "/api/admin/devices/{deviceId}", self.remove, REMOVE),
        ):
            endpoints.add(method, where, Access.OPERATOR, handler, about)

    async def stop(self, request: web.Request) -> web.Response:
        await document(request)
        return json_answer(await self._operations.stop_agent())

    async def start(self, request: web.Request) -> web.Response:
        await document(request)
        return _started(await self._operations.start_agent())

    async def restart(self, request: web.Request) -> web.Response:
        await document(request)
        return _started(await self._operations.restart_agent())

    async def leave_safe_mode(self, request: web.Request) -> web.Response:
        await document(request)
        return _started(await self._operations.leave_safe_mode())

    async def maintenance(self, request: web.Request) -> web.Response:
        return json_answer(self._operations.maintenance())

    async def set_maintenance(self, request: web.Request) -> web.Response:
        read = await document(request, "on", "reason")
        return json_answer(await self._operations.set_maintenance(flag(read, "on"), text(read, "reason") or ""))

    async def reject(self, request: web.Request) -> web.Response:
        await document(request)
        answer = await self._operations.reject_device(label(request, "requestId"))
        message = "Device rejected"
        return json_answer(
            {
                "success": True,
                "requestId": answer["request_id"],
                "deviceId": answer["device_id"],
                "message": message,
            }
        )

    async def remove(self, request: web.Request) -> web.Response:
        answer = await self._operations.remove_device(label(request, "deviceId"))
        return json_answer({"success": True, "deviceId": answer["device_id"], "message": "Device removed"})


def _started(outcome: Document) -> web.Response:
    """202 where it is still on its way."""
    return json_answer(outcome, status=200 if outcome["state"] == HEALTHY else 202)


REQUEST_ID = Parameter(
    "requestId",
    {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARACTERS, "pattern": f"^{NAME_PATTERN}$"},
    "The id of a pairing request, as listed.",
    required=True,
)
DEVICE_ID = Parameter("deviceId", REQUEST_ID.schema, "The id of a paired device, as listed.", required=True)

_AGENT = schemas.reference("Agent")
_ERRORS = (409, 500, 502)
_RESTARTED = schemas.of(
    {
        **schemas.COMPONENTS["Agent"]["properties"],
        "previous_pid": schemas.MAYBE_COUNT,
        "seconds": {"type": "number", "minimum": 0},
    }
)


def _outcome(schema: Schema) -> dict[int, Answer]:
    return {
        200: Answer("It is healthy.", schema),
        202: Answer("It is still starting, after more than a minute.", schema),
    }


STOP = About(
    "Stop the agent and leave it stopped.",
    "agent",
    {200: Answer("It is down.", _AGENT)},
    errors=_ERRORS,
)
START = About("Start a stopped agent; answers when it is healthy.", "agent", _outcome(_AGENT), errors=_ERRORS)
RESTART = About(
    "Stop the agent and start it again; answers when it is healthy.", "agent", _outcome(_RESTARTED), errors=_ERRORS
)
LEAVE = About("After a crash loop: forget the failures and try again.", "agent", _outcome(_RESTARTED), errors=_ERRORS)
MAINTENANCE = About(
    "Are automatic actions paused?",
    "agent",
    {200: Answer("On or off, why, since when.", schemas.reference("Maintenance"))},
)
SET_MAINTENANCE = About(
    "Pause automatic actions (restarts of the agent, retention, garbage collection), or let them go on.",
    "agent",
    {200: Answer("As it is now.", schemas.reference("Maintenance"))},
    body=schemas.of({"on": schemas.FLAG}, optional={"reason": {**schemas.TEXT, "maxLength": MAX_NOTE_CHARACTERS}}),
)
REJECT = About(
    "Turn a pending device away.",
    "devices",
    {
        200: Answer(
            "Done.",
            schemas.of(
                {
                    "success": schemas.FLAG,
                    "requestId": schemas.TEXT,
                    "deviceId": schemas.TEXT,
                    "message": schemas.TEXT,
                }
            ),
        )
    },
    errors=(404, *_ERRORS),
    path=(REQUEST_ID,),
)
REMOVE = About(
    "Forget a paired device; its connections end.",
    "devices",
    {
        200: Answer(
            "Done.",
            schemas.of({"success": schemas.FLAG, "deviceId": schemas.TEXT, "message": schemas.TEXT}),
        )
    },
    errors=(404, *_ERRORS),
    path=(DEVICE_ID,),
)
