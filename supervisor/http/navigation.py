"""A person who opens a page in a browser: how that is told, what has no place in the address, how a refusal looks."""

from __future__ import annotations

from urllib.parse import unquote_plus

from aiohttp import web

from supervisor.http import login_page
from supervisor.http.answers import HttpError

SECRET_PARAMETERS = frozenset({"token"})
"""Older gateways, and moltworker, took the gateway's token in the address, where it ends up in histories and logs."""


def is_navigation(request: web.Request) -> bool:
    """A person opens a page: a script, an image or a program that asks for HTML among others does not."""
    if request.method not in ("GET", "HEAD") or "Upgrade" in request.headers:
        return False
    if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        return False
    return "text/html" in request.headers.get("Accept", "")


def without_token(target: str) -> str | None:
    """The request target without a `token` in its query; None where there is none."""
    path, mark, query = target.partition("?")
    if not mark:
        return None
    fields = query.split("&")
    kept = [field for field in fields if unquote_plus(field.partition("=")[0]).lower() not in SECRET_PARAMETERS]
    if len(kept) == len(fields):
        return None
    return f"{path}?{'&'.join(kept)}" if kept else path


def refusal(request: web.Request, error: HttpError) -> web.Response | None:
    """The refusal as a page, for a person; None where it is not for one, or says nothing about who he is."""
    if error.status not in (401, 403, 429, 503) or not is_navigation(request):
        return None
    headers = {**login_page.HEADERS, **error.headers}
    return web.Response(text=login_page.refusal(error.message, error.hint), status=error.status, headers=headers)
