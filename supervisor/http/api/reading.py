"""The one way in which the API reads a request; what it cannot read is 400 and says which value."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from supervisor.http.answers import HttpError
from supervisor.http.endpoints import PARAMETERS
from supervisor.http.operations import Document

MAX_BODY_BYTES = 64 * 1024
MAX_NOTE_CHARACTERS = 500
MAX_PATH_CHARACTERS = 4096
MAX_NAME_CHARACTERS = 200
NAME_PATTERN = "[A-Za-z0-9_:-][A-Za-z0-9_.:-]*"
"""Ids that others gave: UUIDs and digests so far."""


async def document(request: web.Request, *known: str) -> Document:
    """The body as a JSON object with no other members than `known`; no body is an empty object. What it holds is told
    to the audit log. Raises `HttpError`."""
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise HttpError(413, "too-large", f"The request's body is larger than {MAX_BODY_BYTES} bytes.") from error
    try:
        read: Any = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise bad("The request's body is not JSON.") from error
    if not isinstance(read, dict):
        raise bad("The request's body is not a JSON object.")
    for name in read:
        if name not in known:
            knows = f"knows {', '.join(map(repr, known))}" if known else "takes no members"
            raise bad(f"{name[:100]!r} means nothing here; the request's body {knows}.")
    scalars = (str, int, float, bool, type(None))
    request[PARAMETERS].update({k: v if isinstance(v, scalars) else f"({type(v).__name__})" for k, v in read.items()})
    return read


def text(read: Document, name: str, limit: int = MAX_NOTE_CHARACTERS) -> str | None:
    """A member that is a text, or None where it is absent. Raises `HttpError`."""
    value = read.get(name)
    if name in read and not (isinstance(value, str) and len(value) <= limit):
        raise bad(f"{name!r} is to be a text of at most {limit} characters.")
    if value is not None and not _is_unicode(value):
        raise bad(f"{name!r} holds half of a surrogate pair.")
    return value


def path(read: Document, name: str) -> str:
    """A member that is a path in a tree, empty where it is absent. Bytes that are not UTF-8 may come as Python writes
    them (`\\udcff`) or as listings show them (`\\\\xff`). Raises `HttpError`."""
    value = read.get(name, "")
    if not (isinstance(value, str) and len(value) <= MAX_PATH_CHARACTERS):
        raise bad(f"{name!r} is to be a path of at most {MAX_PATH_CHARACTERS} characters.")
    return checked_path(value, name)


def checked_path(value: str, name: str) -> str:
    """Raises `HttpError` for what no file system takes."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise bad(f"{name!r} holds half of a surrogate pair.") from error
    return value


def flag(read: Document, name: str, *, default: bool | None = None) -> bool:
    """A member that is true or false. Raises `HttpError`, also where it is absent and there is no default."""
    value = read.get(name, default)
    if not isinstance(value, bool):
        raise bad(f"{name!r} is to be true or false.")
    return value


def segment(request: web.Request, name: str) -> int:
    """A number in the path. Raises `HttpError`."""
    value = request.match_info[name]
    if not _is_number(value):
        raise bad(f"The path's {name} is to be the number of a retained snapshot.")
    return int(value)


def label(request: web.Request, name: str) -> str:
    """A name in the path, given by somebody else. Raises `HttpError`."""
    value = request.match_info[name]
    if len(value) > MAX_NAME_CHARACTERS or not re.fullmatch(NAME_PATTERN, value):
        raise bad(f"The path's {name} is to be a name of at most {MAX_NAME_CHARACTERS} letters, digits and '_.:-'.")
    return value


def query(request: web.Request, name: str) -> str | None:
    """A parameter of the query, whose bytes need not be UTF-8 (a file's name may not be). Raises `HttpError` where it
    is there twice."""
    pairs = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, errors="surrogateescape")
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise bad(f"{name!r} is there {len(values)} times.")
    return values[0] if values else None


def number(request: web.Request, name: str, *, default: int, most: int | None = None) -> int:
    """A number in the query. Raises `HttpError`."""
    value = query(request, name)
    if value is None:
        return default
    if not _is_number(value):
        raise bad(f"{name!r} is to be a number.")
    return int(value) if most is None else min(int(value), most)


def bad(message: str) -> HttpError:
    """400."""
    return HttpError(400, "bad-request", message)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 15
