"""Request targets, judged as they came over the wire, before anybody decodes or normalises them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from supervisor.http.answers import HttpError


def refuse_unclear(target: str) -> None:
    """Refuse a target that two programs may read as two different paths.

    A dot segment, in whatever encoding, is resolved by some programs and not by others; a browser resolves it
    before it sends the request, so that only somebody who is up to something sends one. `//` and an encoded
    slash inside a segment are left alone: agents use them.

    Raises:
        HttpError: 400.
    """
    path = target.partition("?")[0]
    if not path.startswith("/"):
        raise _unclear("is not an absolute path")
    if not target.isascii() or "#" in target:
        raise _unclear("holds what a URL has to encode")
    decoded = unquote(path, errors="replace")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in decoded):
        raise _unclear("holds control characters")
    if any(segment in (".", "..") for segment in decoded.replace("\\", "/").split("/")):
        raise _unclear("holds a '.' or '..' segment")


def is_public(target: str, public: Sequence[str]) -> bool:
    """Whether a target lies below one of the explicitly public paths (`/hooks` and what is in it).

    Only a path that every program reads alike can be public: no percent sign, no empty segment.
    """
    path = target.partition("?")[0]
    if "%" in path or "\\" in path or "//" in path:
        return False
    return any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in public)


def _unclear(why: str) -> HttpError:
    return HttpError(400, "unclear-path", f"The request's path {why}.")
