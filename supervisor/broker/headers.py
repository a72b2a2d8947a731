"""Which headers pass the broker, and which end there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.hop_by_hop import HOP_BY_HOP

_CREDENTIAL = re.compile(r"auth|api[-_]?key|access[-_]?key|secret|token|cookie|credential|password", re.IGNORECASE)
"""What the agent says in such a header is for the broker, or is meant to make the broker speak for somebody else."""

_STEERING = re.compile(
    # A gateway's headers choose among stored keys (`cf-aig-byok-alias`), make up costs, or switch its log off.
    r"cf-|helicone-|portkey-|x-forwarded|x-real-ip|forwarded$|via$|host$|expect$|accept-encoding$"
    # Who pays, among those that the key may act for.
    r"|openai-organization$|openai-project$|x-goog-user-project$"
    # What would leave the usage out of an answer, or pass for another method.
    r"|x-goog-fieldmask$|x-http-method",
    re.IGNORECASE,
)

_ENDS_HERE = frozenset({"set-cookie", "set-cookie2", "location", "alt-svc", "server", "www-authenticate"})
"""Of an answer. The body is passed decoded; its encoding and length are set anew where it was encoded."""


def to_provider(headers: CIMultiDictProxy[str], credentials: Mapping[str, str]) -> CIMultiDict[str]:
    """A request's headers as the provider gets them: without any credential of the agent's, with the real ones."""
    passed = _end_to_end(headers)
    for name in set(passed):
        if (_CREDENTIAL.search(name) and name.lower() != "idempotency-key") or _STEERING.match(name):
            passed.popall(name, None)
    # A compressed answer could be neither counted nor searched for the key as it streams past.
    passed["Accept-Encoding"] = "identity"
    for name, value in credentials.items():
        passed[name] = value
    return passed


def to_agent(headers: CIMultiDictProxy[str], secrets: tuple[str, ...]) -> CIMultiDict[str]:
    """An answer's headers as the agent gets them: rate limits, retry-after and request ids pass, a key never."""
    passed = _end_to_end(headers)
    if "Content-Encoding" in passed:
        passed.popall("Content-Encoding")
        passed.popall("Content-Length", None)
    for name in {name.lower() for name in passed}:
        values = passed.getall(name)
        if name in _ENDS_HERE or any(secret in value for secret in secrets for value in values):
            passed.popall(name)
    return passed


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for value in headers.getall("Connection", []) for name in value.split(",")}
    passed = CIMultiDict(headers)
    for name in {name.lower() for name in headers}:
        if name in HOP_BY_HOP or (name in named and name not in ("host", "content-length")):
            passed.popall(name)
    return passed
