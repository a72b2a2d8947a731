"""Files and folders out of a snapshot, streamed from the bucket.

What is downloaded was written by the agent: a browser must save it and never show it in our name.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from email.utils import formatdate
from urllib.parse import quote, unquote_to_bytes

from aiohttp import web

from supervisor.errors import MoltinitError
from supervisor.http.about import About, Answer, Parameter
from supervisor.http.answers import error_answer
from supervisor.http.api import schemas
from supervisor.http.api.reading import MAX_PATH_CHARACTERS, bad, checked_path, query, segment
from supervisor.http.auth import Access
from supervisor.http.endpoints import PARAMETERS, Endpoints
from supervisor.http.operations import Download, Operations
from supervisor.http.tasks import Unhurried

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_FILES = "/api/admin/snapshots/{number}/files"


class DownloadsApi:
    """See the module."""

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._operations = operations
        self._unhurried = unhurried

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""
        endpoints.add("GET", _FILES, Access.OPERATOR, self.file_by_query, FILE_BY_QUERY)
        endpoints.add("GET", _FILES + "/{path:.+}", Access.OPERATOR, self.file, FILE)
        endpoints.add("GET", "/api/admin/snapshots/{number}/tar", Access.OPERATOR, self.tar, TAR)

    async def file(self, request: web.Request) -> web.StreamResponse:
        # As it came over the wire: an encoded slash or percent sign is part of a name.
        raw = request.raw_path.partition("?")[0].partition("/files/")[2]
        return await self._send_file(request, unquote_to_bytes(raw).decode("utf-8", "surrogateescape"))

    async def file_by_query(self, request: web.Request) -> web.StreamResponse:
        path = query(request, "path")
        if not path:
            raise bad("'path' is to be the path of a file.")
        return await self._send_file(request, path)

    async def _send_file(self, request: web.Request, path: str) -> web.StreamResponse:
        number, path = segment(request, "number"), _checked(path)
        request[PARAMETERS]["path"] = path
        opened = await self._unhurried.run(self._operations.open_file(number, path))
        return await _send(request, opened, "application/octet-stream")

    async def tar(self, request: web.Request) -> web.StreamResponse:
        number, path = segment(request, "number"), _checked(query(request, "path") or "")
        request[PARAMETERS]["path"] = path
        opened = await self._unhurried.run(self._operations.open_tar(number, path))
        return await _send(request, opened, "application/x-tar")


async def _send(request: web.Request, opened: Download, media_type: str) -> web.StreamResponse:
    """Stream it. Damage that shows in the first piece is an answer; later, the connection is cut, so that nobody takes
    half a file for a whole one."""
    response = web.StreamResponse(headers={**HEADERS, "Content-Disposition": disposition(opened.name)})
    response.content_type = media_type
    if opened.size is not None:
        response.content_length = opened.size
        response.headers["Last-Modified"] = formatdate(max(0.0, min(opened.modified, 253402300799.0)), usegmt=True)
    async with aclosing(opened.chunks) as chunks:
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        try:
            async for chunk in chunks:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(chunk)
        except MoltinitError as error:
            if not response.prepared:
                return error_answer(error)
            request[PARAMETERS]["code"] = error.code
            if request.transport is not None:
                request.transport.abort()
            return response
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


def disposition(name: str) -> str:
    """`attachment` with a file name: an ASCII one for old browsers, the true one in RFC 8187's form."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)[:200] or "file"
    encoded = quote(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _checked(path: str) -> str:
    if len(path) > MAX_PATH_CHARACTERS or "\0" in path:
        raise bad(f"'path' is to be a path of at most {MAX_PATH_CHARACTERS} characters.")
    return checked_path(path, "path")


_ERRORS = (404, 409, 500, 502, 503)
_CONTENT = {"type": "string", "contentMediaType": "application/octet-stream"}
_PATH_SEGMENTS = {"type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f]+$", "maxLength": 1000}
_PATH_QUERY = {"type": "string", "minLength": 1, "maxLength": 1000}
"""More is taken (4096 bytes, if they fit into the request line with their percent signs) and cannot be promised."""

FILE = About(
    "One file of a snapshot.",
    "downloads",
    {200: Answer("Its bytes.", _CONTENT, "application/octet-stream")},
    errors=_ERRORS,
    path=(schemas.SNAPSHOT_PATH, Parameter("path", _PATH_SEGMENTS, "The file's path in the snapshot.", required=True)),
    audited=True,
)
FILE_BY_QUERY = About(
    "One file of a snapshot, its path in the query.",
    "downloads",
    {200: Answer("Its bytes.", _CONTENT, "application/octet-stream")},
    errors=_ERRORS,
    path=(schemas.SNAPSHOT_PATH,),
    query=(Parameter("path", _PATH_QUERY, "The file's path in the snapshot.", required=True),),
    audited=True,
)
TAR = About(
    "A snapshot, or one folder of it, as a tar archive.",
    "downloads",
    {200: Answer("The archive (POSIX.1-2001).", _CONTENT, "application/x-tar")},
    errors=_ERRORS,
    path=(schemas.SNAPSHOT_PATH,),
    query=(Parameter("path", {**schemas.TEXT, "maxLength": 1000}, "Only this folder or file."),),
    audited=True,
)
