"""Secrets in the Authorization header: the operator token, and the daemon's own for its commands."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from multidict import CIMultiDictProxy


class Bearers:
    """Knows secrets by their hash.

    Args:
        secrets: what each is called, and the secret; one that is None is not in use.
    """

    def __init__(self, secrets: Mapping[str, str | None]) -> None:
        self._digests = [(name, _digest(secret)) for name, secret in secrets.items() if secret]

    def recognise(self, headers: CIMultiDictProxy[str]) -> str | None:
        """What the secret in the Authorization header is called; None where there is none, or a wrong one."""
        offered = headers.getall("Authorization", [])
        secret = _secret_of(offered[0]) if len(offered) == 1 else None
        return None if secret is None else self.name_of(secret)

    def among(self, headers: CIMultiDictProxy[str]) -> bool:
        """Whether one of the secrets is in an Authorization header, be it one of several."""
        offered = map(_secret_of, headers.getall("Authorization", []))
        return any(secret is not None and self.name_of(secret) is not None for secret in offered)

    def name_of(self, secret: str) -> str | None:
        """What this secret is called, found in constant time."""
        digest = _digest(secret)
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def _digest(secret: str) -> bytes:
    # Of equal length whatever was offered, so that the comparison does not tell the secret's length.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _secret_of(authorization: str) -> str | None:
    """The bearer, or the password of Basic with any user name (`curl -u :TOKEN`)."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    _, colon, password = decoded.partition(":")
    return password if colon else None
