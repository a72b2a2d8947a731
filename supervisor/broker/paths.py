"""Which requests pass: exact paths of each dialect, and nothing that two programs could read as two paths.

What is not listed is either able to read what others stored with the same key (files, stored answers, batches), or
spends money that no usage field tells of (batches, fine-tuning), or belongs to the operator (keys, organisations).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, urlencode

from supervisor.broker.providers import MOUNT, Dialect, Provider

_MODEL = r"[A-Za-z0-9@._:~-]+"
_SEVERAL = rf"{_MODEL}(?:/{_MODEL}){{0,3}}"


class Spends(Enum):
    """What a path costs."""

    NOTHING = 0
    TEXT = 1
    """Tokens; a whole answer tells how many."""
    MORE = 2
    """Tokens, too, but speech, pictures and vectors need not tell."""


_ALLOWED: dict[Dialect, tuple[tuple[str, str, Spends], ...]] = {
    Dialect.ANTHROPIC: (
        ("POST", r"/v1/messages", Spends.TEXT),
        ("POST", r"/v1/messages/count_tokens", Spends.NOTHING),
        ("GET", rf"/v1/models(?:/{_MODEL})?", Spends.NOTHING),
    ),
    Dialect.OPENAI: (
        ("POST", r"/(?:chat/completions|completions|responses|responses/compact)", Spends.TEXT),
        ("POST", r"/embeddings", Spends.MORE),
        ("POST", r"/(?:audio/(?:speech|transcriptions|translations)|images/(?:generations|edits))", Spends.MORE),
        ("POST", r"/moderations", Spends.NOTHING),
        ("GET", rf"/models(?:/{_SEVERAL})?", Spends.NOTHING),
    ),
    Dialect.GOOGLE: (
        ("POST", rf"/models/{_MODEL}:(?:generateContent|streamGenerateContent)", Spends.TEXT),
        ("POST", rf"/models/{_MODEL}:(?:embedContent|batchEmbedContents)", Spends.MORE),
        ("POST", rf"/models/{_MODEL}:countTokens", Spends.NOTHING),
        ("GET", rf"/models(?:/{_MODEL})?", Spends.NOTHING),
    ),
}
"""Method, path below the provider's base, and what it spends."""

_TABLE = {
    dialect: tuple((method, re.compile(pattern), spends) for method, pattern, spends in rows)
    for dialect, rows in _ALLOWED.items()
}

_PARAMETERS: dict[Dialect, dict[str, re.Pattern[str]]] = {
    Dialect.ANTHROPIC: {
        "beta": re.compile(r"true|false"),
        "limit": re.compile(r"\d{1,4}"),
        "before_id": re.compile(_MODEL),
        "after_id": re.compile(_MODEL),
    },
    Dialect.OPENAI: {"api-version": re.compile(r"[0-9A-Za-z-]{1,40}")},
    Dialect.GOOGLE: {
        "alt": re.compile(r"sse|json"),
        "pageSize": re.compile(r"\d{1,4}"),
        "pageToken": re.compile(r"[A-Za-z0-9_=+/.-]{1,500}"),
    },
}
"""Query parameters that pass, with their values; the others end here, the agent's key among them. Google's `fields`
would leave the usage out of an answer, `alt=proto` make it unreadable, `callback` wrap it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an allowed request goes, what it spends, and the model where the path names one."""

    url: str
    spends: Spends
    model: str = ""
    outlives: bool = False
    """The provider may go on with it when nobody waits (OpenAI's `background`)."""

    @property
    def metered(self) -> bool:
        """It spends tokens."""
        return self.spends is not Spends.NOTHING


def target(provider: Provider, method: str, raw_path: str) -> Target | None:
    """The upstream URL for a request target as it came over the wire, or None for what is not allowed.

    Nothing is decoded before it is judged: a path with a percent sign, an empty or a dot segment, or a backslash
    matches none of the patterns.
    """
    path, _, query = raw_path.partition("?")
    mount = f"/{provider.name}{MOUNT[provider.dialect]}"
    if not path.startswith(mount + "/"):
        return None
    rest = path.removeprefix(mount)
    if any(segment in ("", ".", "..") for segment in rest.split("/")[1:]):
        return None
    for wanted, pattern, spends in _TABLE[provider.dialect]:
        if method == wanted and pattern.fullmatch(rest):
            kept = _clean(provider.dialect, query)
            url = f"{provider.base_url.rstrip('/')}{rest}" + (f"?{kept}" if kept else "")
            named = re.match(rf"/models/({_MODEL}?):", rest) if provider.dialect is Dialect.GOOGLE else None
            return Target(url, spends, named[1] if named else "", rest == "/responses")
    return None


def query_token(raw_path: str) -> str | None:
    """The key in a query (`?key=`), as Google's clients and CDP URLs carry it."""
    for name, value in parse_qsl(raw_path.partition("?")[2]):
        if name.lower() in ("key", "token"):
            return value
    return None


def _clean(dialect: Dialect, query: str) -> str:
    known = _PARAMETERS[dialect]
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, value) for name, value in pairs if name in known and known[name].fullmatch(value)])
