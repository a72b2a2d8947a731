"""Snapshots: list, take, compare, annotate, forget, restore, undo, collect."""

from __future__ import annotations

import re

from aiohttp import web

from supervisor.http.about import About, Answer, Parameter
from supervisor.http.answers import json_answer
from supervisor.http.api import schemas
from supervisor.http.api.reading import MAX_NOTE_CHARACTERS, bad, document, flag, number, path, segment, text
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Operations
from supervisor.http.tasks import Unhurried

SNAPSHOT_REASON = "operator"
RESCUE_KEY = "rescue/[A-Za-z0-9-]{1,100}"

_ENGINE_ERRORS = (409, 500, 502, 503)
_ONE = schemas.reference("Snapshot")
_NOTE = {**schemas.TEXT, "maxLength": MAX_NOTE_CHARACTERS}
_TAKEN = {**schemas.COMPONENTS["Snapshot"]}
_TAKEN["properties"] = {**_TAKEN["properties"], "uploaded_bytes": schemas.COUNT, "shrunk": schemas.MAYBE_TEXT}
_TAKEN["required"] = [*_TAKEN["required"], "uploaded_bytes", "shrunk"]


class SnapshotsApi:
    """See the module."""

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._operations = operations
        self._unhurried = unhurried

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""
        for method, where, handler, about in (
            ("GET", "/api/admin/snapshots", self.snapshots, LIST),
            ("POST", "/api/admin/snapshots", self.take, TAKE),
            ("GET", "/api/admin/snapshots/diff", self.diff, DIFF),
            ("PATCH", "/api/admin/snapshots/{number}", self.annotate, ANNOTATE),
            ("DELETE", "/api/admin/snapshots/{number}", self.forget, FORGET),
            ("GET", "/api/admin/rescues", self.rescues, RESCUES),
            ("POST", "/api/admin/restore", self.restore, RESTORE),
            ("POST", "/api/admin/restore/undo", self.undo, UNDO),
            ("POST", "/api/admin/gc", self.collect, COLLECT),
        ):
            endpoints.add(method, where, Access.OPERATOR, handler, about)

    async def snapshots(self, request: web.Request) -> web.Response:
        return json_answer({"snapshots": await self._unhurried.run(self._operations.snapshots())})

    async def take(self, request: web.Request) -> web.Response:
        note = text(await document(request, "note"), "note") or ""
        return json_answer(await self._operations.take_snapshot(SNAPSHOT_REASON, note=note))

    async def restore(self, request: web.Request) -> web.Response:
        read = await document(request, "snapshot", "path")
        wanted = read.get("snapshot")
        if isinstance(wanted, float) and wanted.is_integer():
            wanted = int(wanted)  # for JSON, 3.0 is as whole a number as 3
        if isinstance(wanted, bool) or not isinstance(wanted, int | str):
            wanted = -1
        if not (re.fullmatch(RESCUE_KEY, wanted) if isinstance(wanted, str) else wanted >= 0):
            raise bad("'snapshot' is to be the number of a retained snapshot, or the key of a rescued state.")
        return json_answer(await self._operations.restore(wanted, path=path(read, "path")))

    async def undo(self, request: web.Request) -> web.Response:
        await document(request)
        return json_answer(await self._operations.undo())

    async def annotate(self, request: web.Request) -> web.Response:
        read = await document(request, "pin", "note")
        pin, note = text(read, "pin"), text(read, "note")
        if pin is None and note is None:
            raise bad("Give 'pin' (empty: none), 'note', or both.")
        return json_answer(await self._operations.annotate(segment(request, "number"), pin=pin, note=note))

    async def forget(self, request: web.Request) -> web.Response:
        return json_answer(await self._operations.forget(segment(request, "number")))

    async def rescues(self, request: web.Request) -> web.Response:
        return json_answer({"rescues": await self._unhurried.run(self._operations.rescues())})

    async def diff(self, request: web.Request) -> web.Response:
        before = number(request, "from", default=-1)
        if before < 0:
            raise bad("'from' is to be the number of a retained snapshot.")
        after = number(request, "to", default=-1)
        changes = await self._unhurried.run(self._operations.diff(before, None if after < 0 else after))
        return json_answer({"changes": changes})

    async def collect(self, request: web.Request) -> web.Response:
        rehearse = flag(await document(request, "dry_run"), "dry_run", default=False)
        return json_answer(await self._operations.collect(rehearse=rehearse))


LIST = About(
    "The retained snapshots, newest first.",
    "snapshots",
    {200: Answer("The list.", schemas.listing("snapshots", _ONE))},
)
TAKE = About(
    "Take a snapshot now; answers when it is committed.",
    "snapshots",
    {200: Answer("What was committed.", _TAKEN)},
    errors=_ENGINE_ERRORS,
    body=schemas.of({}, optional={"note": _NOTE}),
)
DIFF = About(
    "What came, went and changed between two snapshots.",
    "snapshots",
    {200: Answer("The changes, by path.", schemas.listing("changes", schemas.reference("Change")))},
    errors=(404, *_ENGINE_ERRORS),
    query=(
        Parameter("from", schemas.NUMBER, "The older one's number.", required=True),
        Parameter("to", schemas.NUMBER, "The newer one's number; without it, the newest there is."),
    ),
)
ANNOTATE = About(
    "Pin a snapshot, so that retention keeps it, or note something on it.",
    "snapshots",
    {200: Answer("The snapshot as it is now.", _ONE)},
    errors=(404, *_ENGINE_ERRORS),
    path=(schemas.SNAPSHOT_PATH,),
    body={**schemas.of({}, optional={"pin": _NOTE, "note": _NOTE}), "minProperties": 1},
)
FORGET = About(
    "Drop a snapshot from the list; the next collection deletes what only it refers to.",
    "snapshots",
    {200: Answer("Which one.", schemas.of({"forgotten": schemas.COUNT}))},
    errors=(404, *_ENGINE_ERRORS),
    path=(schemas.SNAPSHOT_PATH,),
)
RESCUES = About(
    "What fenced writers could not commit.",
    "snapshots",
    {
        200: Answer(
            "The list, newest first.",
            schemas.listing(
                "rescues",
                schemas.of({"key": schemas.TEXT, "stored_at": schemas.SECONDS, "manifest_bytes": schemas.COUNT}),
            ),
        )
    },
    errors=_ENGINE_ERRORS,
)
RESTORE = About(
    "Put an older snapshot, a rescued state, or a part of one in place; the state before is kept and pinned.",
    "snapshots",
    {200: Answer("The snapshot that was committed of it.", _ONE)},
    errors=(404, *_ENGINE_ERRORS),
    body=schemas.of(
        {
            "snapshot": {
                "anyOf": [schemas.NUMBER, {"type": "string", "pattern": f"^{RESCUE_KEY}$"}],
                "description": "The number of a retained snapshot, or the key of a rescued state.",
            }
        },
        optional={"path": {**schemas.TEXT, "description": "Only what lies at and below this path."}},
    ),
)
UNDO = About(
    "Take back the last restore.",
    "snapshots",
    {200: Answer("The snapshot that was committed of it.", _ONE)},
    errors=(404, *_ENGINE_ERRORS),
)
COLLECT = About(
    "Delete from the bucket what nothing refers to.",
    "snapshots",
    {
        200: Answer(
            "What was deleted, or would be.",
            schemas.of(
                dict.fromkeys(("packs", "manifests", "bytes", "young", "kept_packs", "kept_bytes"), schemas.COUNT)
            ),
        )
    },
    errors=_ENGINE_ERRORS,
    body=schemas.of({}, optional={"dry_run": {**schemas.FLAG, "default": False}}),
)
