"""Request targets, judged as they came over the wire, before anybody decodes or normalises them.

What is judged is what the agent gets, byte for byte. A target that some program could read as another path than
this one does is refused, so that there is one reading and no bypass.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from supervisor.errors import SettingsError
from supervisor.http.answers import HttpError

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_\-~!$&'()*+,=:@][A-Za-z0-9._\-~!$&'()*+,=:@]*)*/?")
"""Nearly every target: nothing to decode, no empty segment, none that begins with a dot."""
_RAW = re.compile(r"[!-~]+")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DECODINGS = 4
"""As often as somebody may have encoded in a row; what is not plain text then is refused."""


def refuse_unclear(target: str) -> None:
    """Refuse a target that two programs may read as two different paths.

    `//` and an encoded slash inside of a path are left alone: agents use them.

    Raises:
        HttpError: 400.
    """
    path = target.partition("?")[0]
    if not path.startswith("/"):
        raise _unclear("is not an absolute path")
    if _RAW.fullmatch(target) is None or "#" in target or "\\" in path:
        raise _unclear("holds what a URL has to encode")
    if _PLAIN.fullmatch(path) is not None:
        return
    if path.startswith("//"):
        raise _unclear("begins with two slashes, like the name of a host")
    if _BROKEN_ESCAPE.search(path):
        raise _unclear("holds a percent sign that encodes nothing")
    decoded = _decoded(path)
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in decoded):
        raise _unclear("holds control characters")
    if any(segment in (".", "..") for segment in _segments(decoded)):
        raise _unclear("holds a '.' or '..' segment")


@dataclass(frozen=True, slots=True)
class OwnPaths:
    """The front door's own paths: single ones, and trees with all that is below them."""

    single: frozenset[str]
    trees: tuple[str, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> OwnPaths:
        """From the patterns of a router: what comes after a `{` is a tree."""
        single, trees = set(), set()
        for pattern in patterns:
            prefix, brace, _ = pattern.partition("{")
            if brace:
                trees.add(prefix.rstrip("/"))
            else:
                single.add(pattern)
        return cls(frozenset(single), tuple(sorted(trees)))

    def holds(self, path: str) -> bool:
        """Whether a path, as it is written, is one of them."""
        return path in self.single or any(path == tree or path.startswith(tree + "/") for tree in self.trees)

    def refuse_lookalike(self, target: str) -> None:
        """Refuse a target that is none of them, but that a program less strict would take for one.

        Upper case, escapes (of escapes), empty segments, `;parameters`, backslashes, a slash at the end.

        Raises:
            HttpError: 400.
        """
        path = target.partition("?")[0]
        if self.holds(path):
            return
        if self.holds(folded(path)):
            raise _unclear("looks like one of the front door's own, and is written differently")


def folded(path: str) -> str:
    """A path as the most forgiving program would read it."""
    if _PLAIN.fullmatch(path) is not None:
        return path.rstrip("/").lower() or "/"
    decoded = unicodedata.normalize("NFKC", _decoded(path)).casefold()
    return "/" + "/".join(segment for segment in _segments(decoded) if segment)


class PublicPaths:
    """Paths of the agent that everyone may reach: `/hooks/telegram`, or `/hooks/*` for all that is below `/hooks/`.

    Raises:
        SettingsError: one of them covers a path of the front door.
    """

    def __init__(self, patterns: Sequence[str], own: OwnPaths) -> None:
        self._single = frozenset(pattern for pattern in patterns if not pattern.endswith("/*"))
        self._below = tuple(pattern.removesuffix("*") for pattern in patterns if pattern.endswith("/*"))
        for pattern in patterns:
            prefix = pattern.removesuffix("*")
            ours = (*own.single, *(tree + "/" for tree in own.trees))
            below = prefix.endswith("/") and any(path.startswith(prefix) for path in ours)
            if below or own.holds(folded(prefix)):
                raise SettingsError(
                    f"MOLTINIT_PUBLIC_PATHS has {pattern!r}, which covers a path of the front door itself.",
                    hint="Name the webhook's own path, such as /hooks/telegram or /hooks/*.",
                )

    def __bool__(self) -> bool:
        return bool(self._single or self._below)

    def match(self, target: str) -> bool:
        """Whether a target is public. Only a path that every program reads alike can be."""
        path = target.partition("?")[0]
        if _PLAIN.fullmatch(path) is None:
            return False
        return path in self._single or any(path.startswith(prefix) and path != prefix for prefix in self._below)


def _decoded(path: str) -> str:
    """Decoded until nothing is left to decode."""
    text = path
    for _ in range(_DECODINGS):
        if "%" not in text:
            return text
        try:
            once = unquote_to_bytes(text).decode()
        except UnicodeDecodeError as error:
            raise _unclear("is not UTF-8 when it is decoded") from error
        if once == text:
            return text
        text = once
    raise _unclear("is encoded more often than anybody would")


def _segments(path: str) -> list[str]:
    # Some programs cut `;parameters` off each segment before they look at it.
    return [segment.partition(";")[0] for segment in path.replace("\\", "/").split("/")]


def _unclear(why: str) -> HttpError:
    return HttpError(400, "unclear-path", f"The request's path {why}.")
