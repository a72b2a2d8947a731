"""Whether a browser opens a page, and what has no place in a page's address."""

from __future__ import annotations

from urllib.parse import unquote_plus

from aiohttp import web

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
