"""The endpoints that moltworker's clients know, in its shapes: an error is a text under `error`, not an object.

Where moltworker guessed (an exit code, a file in /tmp), these tell what is known: a restart has happened, a sync is
committed, `lastSync` is the time of a snapshot that is in the bucket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from aiohttp import web

from supervisor.errors import MoltinitError
from supervisor.http.about import About, Answer
from supervisor.http.answers import HttpError, json_answer, status_of
from supervisor.http.api import schemas
from supervisor.http.api.agent import HEALTHY, REQUEST_ID
from supervisor.http.api.reading import document, label
from supervisor.http.api.snapshots import SNAPSHOT_REASON
from supervisor.http.auth import Access
from supervisor.http.endpoints import PARAMETERS, Endpoints
from supervisor.http.operations import Document, Operations
from supervisor.http.tasks import Unhurried

GATEWAY_PORT = 18789
"""A constant in moltworker's answer, whatever the gateway's port."""
DETAILS_CHARACTERS = 500

_Api = TypeVar("_Api")
_Handler = Callable[[_Api, web.Request], Awaitable[web.StreamResponse]]


def _telling(handler: _Handler[_Api]) -> _Handler[_Api]:
    """Errors in moltworker's shape. What the request itself did wrong keeps its status; all else is 500 there."""

    @wraps(handler)
    async def told(self: _Api, request: web.Request) -> web.StreamResponse:
        try:
            return await handler(self, request)
        except MoltinitError as error:
            status = status_of(error)
            request[PARAMETERS]["code"] = error.code
            body: Document = {"error": error.message, "code": error.code, "hint": error.hint}
            if request.method != "GET" and request.method != "HEAD":
                body = {"success": False, **body, "details": error.hint[-DETAILS_CHARACTERS:]}
            if "requestId" in request.match_info:
                body = {**body, "requestId": request.match_info["requestId"], "message": error.message}
            headers = error.headers if isinstance(error, HttpError) else {}
            return json_answer(body, status=status if 400 <= status < 500 else 500, headers=headers)

    return told


class MoltworkerApi:
    """See the module."""

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._operations = operations
        self._unhurried = unhurried

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""
        endpoints.add("GET", "/sandbox-health", Access.OPEN, self.sandbox_health, SANDBOX_HEALTH)
        endpoints.add("GET", "/api/status", Access.OPEN, self.status, STATUS)
        for method, where, handler, about in (
            ("GET", "/api/admin/devices", self.devices, DEVICES),
            ("POST", "/api/admin/devices/approve-all", self.approve_all, APPROVE_ALL),
            ("POST", "/api/admin/devices/{requestId}/approve", self.approve, APPROVE),
            ("GET", "/api/admin/storage", self.storage, STORAGE),
            ("POST", "/api/admin/storage/sync", self.sync, SYNC),
            ("POST", "/api/admin/gateway/restart", self.restart, RESTART),
        ):
            endpoints.add(method, where, Access.OPERATOR, handler, about)

    async def sandbox_health(self, request: web.Request) -> web.Response:
        return json_answer({"status": "ok", "service": "moltbot-sandbox", "gateway_port": GATEWAY_PORT})

    async def status(self, request: web.Request) -> web.Response:
        # Always 200, as moltworker's loading page expects; answered from memory, so that nobody's polling costs.
        if self._operations.gateway() is not None:
            return json_answer({"ok": True, "status": "running", "processId": "gateway"})
        started, _ = self._operations.startup()
        return json_answer({"ok": False, "status": "not_responding" if started else "not_running"})

    @_telling
    async def devices(self, request: web.Request) -> web.StreamResponse:
        return json_answer(await self._unhurried.run(self._operations.devices()))

    @_telling
    async def approve(self, request: web.Request) -> web.StreamResponse:
        await document(request)
        request_id = label(request, "requestId")
        answer = await self._operations.approve_device(request_id)
        return json_answer(
            {
                "success": True,
                "requestId": request_id,
                "message": "Device approved",
                "deviceId": answer["device_id"],
                "stdout": "",
                "stderr": "",
            }
        )

    @_telling
    async def approve_all(self, request: web.Request) -> web.StreamResponse:
        await document(request)
        return json_answer(await self._operations.approve_all_devices())

    @_telling
    async def storage(self, request: web.Request) -> web.StreamResponse:
        return json_answer(await self._operations.storage())

    @_telling
    async def sync(self, request: web.Request) -> web.StreamResponse:
        await document(request)
        before = await self._operations.storage()
        if not before["configured"]:
            raise HttpError(400, "not-configured", "R2 storage is not configured", hint=before["message"])
        taken = await self._operations.take_snapshot(SNAPSHOT_REASON)
        return json_answer(
            {
                "success": True,
                "message": "Sync completed successfully",
                "lastSync": (await self._operations.storage())["lastSync"],
                "sequence": taken["sequence"],
            }
        )

    @_telling
    async def restart(self, request: web.Request) -> web.StreamResponse:
        await document(request)
        outcome = await self._operations.restart_agent()
        healthy = outcome["state"] == HEALTHY
        message = (
            f"The gateway was restarted in {outcome['seconds']:.1f} s."
            if healthy
            else f"The gateway is still {outcome['state']} after {outcome['seconds']:.0f} s."
        )
        previous = outcome.get("previous_pid")
        return json_answer(
            {
                "success": True,
                "message": message,
                "previousProcessId": None if previous is None else str(previous),
                "state": outcome["state"],
            },
            status=200 if healthy else 202,
        )


_MOLT_ERRORS = (404, 409, 500)
_ERROR = schemas.reference("MoltworkerError")
_ROWS = {"type": "array", "items": {"type": "object"}}


def _about(summary: str, tag: str, schema: dict[str, Any], **more: Any) -> About:
    return About(summary, tag, {200: Answer("As moltworker answers.", schema), **more.pop("answers", {})}, **more)


SANDBOX_HEALTH = _about(
    "A constant that moltworker's clients ask for.",
    "moltworker",
    schemas.of({"status": schemas.TEXT, "service": schemas.TEXT, "gateway_port": schemas.COUNT}),
)
STATUS = _about(
    "Does the gateway run? Always 200.",
    "moltworker",
    schemas.of(
        {"ok": schemas.FLAG, "status": {"enum": ["running", "not_running", "not_responding"]}},
        optional={"processId": schemas.TEXT},
    ),
)
DEVICES = _about(
    "Devices that ask to be paired, and those that are.",
    "devices",
    schemas.of({"pending": _ROWS, "paired": _ROWS}),
    errors=_MOLT_ERRORS,
    error=_ERROR,
)
APPROVE = _about(
    "Let a pending device in.",
    "devices",
    schemas.of(
        {
            "success": schemas.FLAG,
            "requestId": schemas.TEXT,
            "message": schemas.TEXT,
            "deviceId": schemas.TEXT,
            "stdout": schemas.TEXT,
            "stderr": schemas.TEXT,
        }
    ),
    errors=_MOLT_ERRORS,
    error=_ERROR,
    path=(REQUEST_ID,),
)
APPROVE_ALL = _about(
    "Let all pending devices in.",
    "devices",
    schemas.of({"approved": {"type": "array", "items": schemas.TEXT}, "failed": _ROWS, "message": schemas.TEXT}),
    errors=_MOLT_ERRORS,
    error=_ERROR,
)
STORAGE = _about(
    "Is the state kept, and since when?",
    "moltworker",
    schemas.of(
        {
            "configured": schemas.FLAG,
            "lastSync": {"type": ["string", "null"], "format": "date-time"},
            "message": schemas.TEXT,
            "url": schemas.TEXT,
            "reachable": {"type": ["boolean", "null"]},
            "lastError": schemas.MAYBE_TEXT,
            "pending": schemas.FLAG,
            "snapshots": schemas.COUNT,
            "sequence": schemas.MAYBE_COUNT,
            "files": schemas.MAYBE_COUNT,
            "bytes": schemas.MAYBE_COUNT,
        },
        optional={"missing": {"type": "array", "items": schemas.TEXT}},
    ),
    errors=_MOLT_ERRORS,
    error=_ERROR,
)
SYNC = _about(
    "Take a snapshot now.",
    "moltworker",
    schemas.of(
        {
            "success": schemas.FLAG,
            "message": schemas.TEXT,
            "lastSync": {"type": ["string", "null"], "format": "date-time"},
            "sequence": schemas.COUNT,
        }
    ),
    errors=_MOLT_ERRORS,
    error=_ERROR,
)
_RESTARTED = schemas.of(
    {
        "success": schemas.FLAG,
        "message": schemas.TEXT,
        "previousProcessId": schemas.MAYBE_TEXT,
        "state": schemas.TEXT,
    }
)
RESTART = _about(
    "Restart the agent; answers when it is healthy.",
    "moltworker",
    _RESTARTED,
    answers={202: Answer("It is still starting, after more than a minute.", _RESTARTED)},
    errors=_MOLT_ERRORS,
    error=_ERROR,
)
