"""The paths below `/_admin/`: pages to read, forms to act, files to look good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from supervisor.clock import Clock
from supervisor.errors import MoltinitError
from supervisor.http.admin.actions import ACTIONS, Form, snapshot_named
from supervisor.http.admin.notices import Notice, Notices
from supervisor.http.admin.render import PAGE_HEADERS, PREFIX, Renderer
from supervisor.http.admin.sources import Sources, ask, log_lines
from supervisor.http.admin.timeline import diff_view, snapshot_view, timeline
from supervisor.http.admin.verdict import Mood
from supervisor.http.admin.view import AUDIT_ROWS, overview
from supervisor.http.admin.words import sentence
from supervisor.http.answers import HttpError, status_of
from supervisor.http.auth import Access
from supervisor.http.endpoints import PARAMETERS, Endpoints, Handler
from supervisor.http.operations import Document, Operations
from supervisor.http.tasks import Unhurried

LOG_LINES = 200
FILTER_CHARACTERS = 100
DIFF_SECONDS = 30.0

AUDITED = ("snapshot", "path", "device", "reason", "note", "pin", "how")
"""Fields of forms that the audit log tells."""

SIGN_OUT = {"token": "form", "access": "/cdn-cgi/access/logout"}
"""A form of the login page's, or a path that Cloudflare answers (Access: "log out of an application")."""

_T = TypeVar("_T")

_RESTORING = {"added": "comes back", "changed": "goes back", "removed": "goes away"}


class AdminPage:
    """The admin page.

    Args:
        unhurried: where operations run, so that none is cancelled with its request.
        auth: how people sign in, and so how they sign out: `none`, `token`, `access`.
    """

    def __init__(self, operations: Operations, unhurried: Unhurried, clock: Clock, *, auth: str = "none") -> None:
        self._operations = operations
        self._unhurried = unhurried
        self._clock = clock
        self._sign_out = SIGN_OUT.get(auth, "")
        self._notices = Notices()
        self._renderer: asyncio.Task[Renderer] | None = None

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""

        def add(method: str, path: str, handler: Handler) -> None:
            endpoints.add(method, path, Access.OPERATOR, handler)

        add("GET", "/_admin", self.to_front)
        add("GET", "/_admin/", self._shown(self.front))
        add("GET", "/_admin/snapshots", self._shown(self.snapshots))
        add("GET", "/_admin/snapshots/{number}", self._shown(self.snapshot))
        add("GET", "/_admin/restore", self._shown(self.confirm_restore))
        add("POST", "/_admin/do/{action}", self.act)
        add("GET", PREFIX + "{name}", self.static)

    async def to_front(self, request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": "/_admin/"})

    async def front(self, request: web.Request) -> web.Response:
        wanted = request.query.get("q", "")[:FILTER_CHARACTERS]
        view = overview(await self._ask_everything(wanted))
        return await self._page(request, "front.html", {"view": view, "q": wanted})

    async def snapshots(self, request: web.Request) -> web.Response:
        before = _number(request.query.get("before"))
        records = await self._operations.snapshots()
        part = timeline(records, before=before, only_pinned="pinned" in request.query)
        nothing: list[Document] = []
        # Asked here only: it is a listing of the bucket, which costs more than a look at what is known.
        rescues = await self._ask(self._operations.rescues(), nothing)
        return await self._page(request, "snapshots.html", {"timeline": part, "rescues": rescues})

    async def snapshot(self, request: web.Request) -> web.Response:
        number = _number(request.match_info["number"])
        records = await self._operations.snapshots()
        place = next((i for i, record in enumerate(records) if record["sequence"] == number), None)
        if number is None or place is None:
            raise HttpError(404, "not-found", "There is no such snapshot.", hint="It may have been dropped since.")
        newest = next((record["sequence"] for record in records if record["promoted"]), None)
        before = records[place + 1]["sequence"] if place + 1 < len(records) else None
        changes = await self._diff(before, number) if before is not None else None
        values = {
            "snapshot": snapshot_view(records[place], newest=newest),
            "record": records[place],
            "before": before,
            "diff": diff_view(changes.value) if changes else None,
            "diff_error": changes.error if changes else "",
        }
        return await self._page(request, "snapshot.html", values)

    async def confirm_restore(self, request: web.Request) -> web.Response:
        wanted = snapshot_named(request.query.get("snapshot", ""))
        records = await self._operations.snapshots()
        newest = next((record["sequence"] for record in records if record["promoted"]), None)
        record = next((record for record in records if record["sequence"] == wanted), None)
        if isinstance(wanted, int) and record is None:
            raise HttpError(404, "not-found", f"There is no snapshot {wanted}.")
        changes = await self._diff(newest, wanted) if newest is not None and isinstance(wanted, int) else None
        values = {
            "wanted": wanted,
            "snapshot": snapshot_view(record, newest=newest) if record else None,
            "newest": newest,
            "diff": diff_view(changes.value, _RESTORING.__getitem__) if changes else None,
            "diff_error": changes.error if changes else "",
        }
        return await self._page(request, "restore.html", values)

    async def act(self, request: web.Request) -> web.Response:
        refuse_unless_own(request)
        action = ACTIONS.get(request.match_info["action"])
        told = request.get(PARAMETERS, {})
        if action is None:
            raise HttpError(404, "not-found", "There is no such action.")
        if request.content_type != "application/x-www-form-urlencoded":
            raise HttpError(415, "bad-request", "A form is to be sent as application/x-www-form-urlencoded.")
        place = "/_admin/"
        try:
            try:
                fields: Mapping[str, object] = await request.post()
            except web.HTTPRequestEntityTooLarge as error:
                raise HttpError(413, "too-large", "The form is too large.") from error
            told.update({name: fields[name] for name in AUDITED if fields.get(name)})
            done = await action(self._operations, Form(fields))
            notice, place = done.notice, done.place
        except MoltinitError as error:
            # Answered by a page that says so: the audit log is told here.
            told["code"] = error.code
            notice = Notice(Mood.BAD, sentence(error.message), hint=sentence(error.hint))
        name = self._notices.keep(notice)
        return web.Response(
            status=303, headers={"Location": f"{place}?notice={quote(name)}", "Cache-Control": "no-store"}
        )

    async def static(self, request: web.Request) -> web.Response:
        asset = (await self._templates()).asset(request.match_info["name"])
        if asset is None:
            raise HttpError(404, "not-found", "There is no such file; reload the page.")
        headers = {
            "ETag": asset.etag,
            # For this browser only: a shared cache has no business with an operator's page.
            "Cache-Control": "private, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": "default-src 'none'",
        }
        if asset.etag in [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=asset.body, headers={**headers, "Content-Type": asset.content_type})

    async def _ask_everything(self, wanted: str) -> Sources:
        operations = self._operations
        nothing: list[Document] = []
        no_devices: Document = {}
        snapshots, devices = await asyncio.gather(
            self._ask(operations.snapshots(), nothing),
            self._ask(operations.devices(), no_devices),
        )
        return Sources(
            now=self._clock.time(),
            status=operations.status(),
            resources=operations.resources(),
            cost=operations.cost(),
            logs=log_lines(operations, LOG_LINES, wanted),
            snapshots=snapshots,
            devices=devices,
            maintenance=operations.maintenance(),
            audit=operations.audit(AUDIT_ROWS),
            config=operations.config(),
        )

    async def _ask(self, work: Awaitable[_T], otherwise: _T) -> Any:
        return await ask(self._unhurried.run(_work(work)), otherwise)

    async def _diff(self, before: int, after: int) -> Any:
        nothing: list[Document] = []
        work = self._unhurried.run(_work(self._operations.diff(before, after)))
        return await ask(work, nothing, seconds=DIFF_SECONDS)

    def _shown(self, handler: Callable[[web.Request], Awaitable[web.Response]]) -> Handler:
        """An error is a page, too."""

        async def show(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except MoltinitError as error:
                return await self._page(request, "error.html", {"error": error}, status=status_of(error))

        return show

    async def _page(
        self, request: web.Request, template: str, values: Mapping[str, Any], *, status: int = 200
    ) -> web.Response:
        renderer = await self._templates()
        notice = self._notices.get(request.query.get("notice", ""))
        body = renderer.page(
            template, {"now": self._clock.time(), "notice": notice, "q": "", "sign_out": self._sign_out, **values}
        )
        return web.Response(body=body, status=status, headers=PAGE_HEADERS)

    async def _templates(self) -> Renderer:
        # Imported and compiled at the first look, away from the event loop; whoever asks meanwhile waits for the same.
        if self._renderer is None:
            self._renderer = asyncio.ensure_future(asyncio.to_thread(Renderer))
        return await asyncio.shield(self._renderer)


def refuse_unless_own(request: web.Request) -> None:
    """A form is taken only from a page of ours. The gatekeeper has compared Origin and Sec-Fetch-Site where they are
    there; here one of them has to be. Raises `HttpError`."""
    if "Origin" not in request.headers and request.headers.get("Sec-Fetch-Site") != "same-origin":
        raise HttpError(
            403,
            "cross-site",
            "The form did not say that it comes from this page.",
            hint="Scripts use /api/admin/ instead.",
        )


async def _work(work: Awaitable[_T]) -> _T:
    return await work


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else None
