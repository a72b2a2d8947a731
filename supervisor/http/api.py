"""The operator's API, and the two public shapes that moltworker's clients expect."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from supervisor.http.answers import HttpError, json_answer
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Document, Operations
from supervisor.http.tasks import Unhurried

MAX_BODY_BYTES = 64 * 1024
MAX_NOTE_CHARACTERS = 500
MAX_PATH_CHARACTERS = 4096
MAX_LOG_LINES = 1000
METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOLTWORKER_GATEWAY_PORT = 18789
"""A constant in moltworker's answer, whatever the gateway's port."""

SNAPSHOT_REASON = "operator"


class Api:
    """The handlers; each does one thing that `Operations` offers.

    Args:
        unhurried: where the operations run, so that none is cancelled with its request.
    """

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._operations = operations
        self._unhurried = unhurried

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths. `/api/admin/` and `/_admin/` are the front door's as a whole."""
        add = endpoints.add
        add("GET", "/sandbox-health", Access.OPEN, self.sandbox_health)
        add("GET", "/api/status", Access.OPEN, self.moltworker_status)
        add("GET", "/status", Access.OPERATOR, self.status)
        add("GET", "/metrics", Access.OPERATOR, self.metrics)
        add("GET", "/api/admin/snapshots", Access.OPERATOR, self.snapshots)
        add("POST", "/api/admin/snapshots", Access.OPERATOR, self.take_snapshot)
        add("GET", "/api/admin/snapshots/diff", Access.OPERATOR, self.diff)
        add("PATCH", "/api/admin/snapshots/{number}", Access.OPERATOR, self.annotate)
        add("DELETE", "/api/admin/snapshots/{number}", Access.OPERATOR, self.forget)
        add("GET", "/api/admin/rescues", Access.OPERATOR, self.rescues)
        add("POST", "/api/admin/restore", Access.OPERATOR, self.restore)
        add("POST", "/api/admin/restore/undo", Access.OPERATOR, self.undo)
        add("POST", "/api/admin/gc", Access.OPERATOR, self.collect)
        add("POST", "/api/admin/gateway/restart", Access.OPERATOR, self.restart)
        add("GET", "/api/admin/logs", Access.OPERATOR, self.logs)

    async def sandbox_health(self, request: web.Request) -> web.Response:
        return json_answer({"status": "ok", "service": "moltbot-sandbox", "gateway_port": MOLTWORKER_GATEWAY_PORT})

    async def moltworker_status(self, request: web.Request) -> web.Response:
        # Always 200, as moltworker's loading page expects.
        if self._operations.gateway() is not None:
            return json_answer({"ok": True, "status": "running", "processId": "gateway"})
        started, _ = self._operations.startup()
        return json_answer({"ok": False, "status": "not_responding" if started else "not_running"})

    async def status(self, request: web.Request) -> web.Response:
        return json_answer(self._operations.status())

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._operations.metrics(),
            headers={"Content-Type": METRICS_CONTENT_TYPE, "Cache-Control": "no-store"},
        )

    async def snapshots(self, request: web.Request) -> web.Response:
        return json_answer({"snapshots": await self._unhurried.run(self._operations.snapshots())})

    async def take_snapshot(self, request: web.Request) -> web.Response:
        note = _text(await _document(request), "note", MAX_NOTE_CHARACTERS) or ""
        work = self._operations.take_snapshot(SNAPSHOT_REASON, note=note)
        return json_answer(await self._unhurried.run(work))

    async def restore(self, request: web.Request) -> web.Response:
        document = await _document(request)
        wanted = document.get("snapshot")
        if isinstance(wanted, bool) or not isinstance(wanted, int | str):
            wanted = -1
        if not (wanted.startswith("rescue/") if isinstance(wanted, str) else wanted >= 0):
            raise _bad("'snapshot' is to be the number of a retained snapshot, or the key of a rescued state.")
        path = _text(document, "path", MAX_PATH_CHARACTERS) or ""
        return json_answer(await self._unhurried.run(self._operations.restore(wanted, path=path)))

    async def undo(self, request: web.Request) -> web.Response:
        return json_answer(await self._unhurried.run(self._operations.undo()))

    async def annotate(self, request: web.Request) -> web.Response:
        document = await _document(request)
        pin, note = _text(document, "pin", MAX_NOTE_CHARACTERS), _text(document, "note", MAX_NOTE_CHARACTERS)
        if pin is None and note is None:
            raise _bad("Give 'pin' (empty: none), 'note', or both.")
        work = self._operations.annotate(_segment(request, "number"), pin=pin, note=note)
        return json_answer(await self._unhurried.run(work))

    async def forget(self, request: web.Request) -> web.Response:
        return json_answer(await self._unhurried.run(self._operations.forget(_segment(request, "number"))))

    async def rescues(self, request: web.Request) -> web.Response:
        return json_answer({"rescues": await self._unhurried.run(self._operations.rescues())})

    async def diff(self, request: web.Request) -> web.Response:
        before = _number(request, "from", default=-1)
        if before < 0:
            raise _bad("'from' is to be the number of a retained snapshot.")
        after = _number(request, "to", default=-1)
        changes = await self._unhurried.run(self._operations.diff(before, None if after < 0 else after))
        return json_answer({"changes": changes})

    async def collect(self, request: web.Request) -> web.Response:
        rehearse = (await _document(request)).get("dry_run", False)
        if not isinstance(rehearse, bool):
            raise _bad("'dry_run' is to be true or false.")
        return json_answer(await self._unhurried.run(self._operations.collect(rehearse=rehearse)))

    async def restart(self, request: web.Request) -> web.Response:
        answer = await self._unhurried.run(self._operations.restart_agent())
        return json_answer({"success": True, "message": "The gateway is restarting.", **answer})

    async def logs(self, request: web.Request) -> web.Response:
        after = _number(request, "after", default=0)
        limit = min(_number(request, "limit", default=200), MAX_LOG_LINES)
        lines = list(self._operations.agent_logs(after, limit))
        return json_answer({"lines": lines, "next": lines[-1].get("number", after) if lines else after})


async def _document(request: web.Request) -> Document:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise HttpError(413, "too-large", f"The request's body is larger than {MAX_BODY_BYTES} bytes.") from error
    try:
        document: Any = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise _bad("The request's body is not JSON.") from error
    if not isinstance(document, dict):
        raise _bad("The request's body is not a JSON object.")
    return document


def _text(document: Document, name: str, limit: int) -> str | None:
    value = document.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= limit):
        raise _bad(f"'{name}' is to be a text of at most {limit} characters.")
    return value


def _segment(request: web.Request, name: str) -> int:
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _bad("The last part of the path is to be the number of a retained snapshot.")
    return int(text)


def _number(request: web.Request, name: str, *, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _bad(f"'{name}' is to be a number.")
    return int(text)


def _bad(message: str) -> HttpError:
    return HttpError(400, "bad-request", message)
