"""Which requests pass: exact paths of each dialect, and nothing that two programs could read as two paths.

What is not listed is either able to read what others stored with the same key (files, stored answers, batches), or
spends money that no usage field tells of (batches, fine-tuning), or belongs to the operator (keys, organisations).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from supervisor.broker.providers import MOUNT, Dialect, Provider

_MODEL = r"[A-Za-z0-9@._:~-]+"
_SEVERAL = rf"{_MODEL}(?:/{_MODEL}){{0,3}}"

_ALLOWED: dict[Dialect, tuple[tuple[str, str, bool], ...]] = {
    Dialect.ANTHROPIC: (
        ("POST", r"/v1/messages", True),
        ("POST", r"/v1/messages/count_tokens", False),
        ("GET", rf"/v1/models(?:/{_MODEL})?", False),
    ),
    Dialect.OPENAI: (
        ("POST", r"/(?:chat/completions|completions|responses|responses/compact|embeddings)", True),
        ("POST", r"/(?:audio/(?:speech|transcriptions|translations)|images/(?:generations|edits))", True),
        ("POST", r"/moderations", False),
        ("GET", rf"/models(?:/{_SEVERAL})?", False),
    ),
    Dialect.GOOGLE: (
        ("POST", rf"/models/{_MODEL}:(?:generateContent|streamGenerateContent)", True),
        ("POST", rf"/models/{_MODEL}:(?:embedContent|batchEmbedContents)", True),
        ("POST", rf"/models/{_MODEL}:countTokens", False),
        ("GET", rf"/models(?:/{_MODEL})?", False),
    ),
}
"""Method, path below the provider's base, and whether it spends tokens."""

_TABLE = {
    dialect: tuple((method, re.compile(pattern), metered) for method, pattern, metered in rows)
    for dialect, rows in _ALLOWED.items()
}

_SPENT = frozenset({"key", "api_key", "api-key", "apikey", "token", "access_token", "secret", "auth"})
"""Query parameters that carry a credential: the agent's own is for the broker, and ends here."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an allowed request goes. `metered`: it spends tokens; `model`: where the path names one."""

    url: str
    metered: bool
    model: str = ""


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
    for wanted, pattern, metered in _TABLE[provider.dialect]:
        if method == wanted and pattern.fullmatch(rest):
            kept = _clean(query)
            url = f"{provider.base_url.rstrip('/')}{rest}" + (f"?{kept}" if kept else "")
            named = re.match(rf"/models/({_MODEL}?):", rest) if provider.dialect is Dialect.GOOGLE else None
            return Target(url, metered, named[1] if named else "")
    return None


def query_token(raw_path: str) -> str | None:
    """The key in a query (`?key=`), as Google's clients and CDP URLs carry it."""
    for name, value in parse_qsl(raw_path.partition("?")[2]):
        if name.lower() in ("key", "token"):
            return value
    return None


def _clean(query: str) -> str:
    return urlencode([(n, v) for n, v in parse_qsl(query, keep_blank_values=True) if n.lower() not in _SPENT])
