"""A signed cookie that says: this browser has shown the operator token. It holds nothing else, and nobody keeps a list.

The key is derived from the token: another token, and every cookie is void; the same token in the next VM, and a browser
is still signed in. The derivation is slow on purpose, so that a stolen cookie is a poor means to guess the token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import cached_property

from multidict import CIMultiDictProxy

from supervisor.http.cookies import cookie_values

SESSION_SECONDS = 7 * 24 * 3600

PLAIN_NAME = "moltinit_session"
SECURE_NAME = f"__Host-{PLAIN_NAME}"
"""A browser takes a cookie with this prefix from https only, for all paths, and from no other host (RFC 6265bis)."""

MAX_REVOKED = 1024
_MAX_COOKIE = 256


class Sessions:
    """Makes and reads session cookies.

    Args:
        token: the operator token.
        now: seconds since 1970.
    """

    def __init__(self, token: str, now: Callable[[], float], *, seconds: int = SESSION_SECONDS) -> None:
        self._token = token
        self._now = now
        self._seconds = seconds
        self._revoked: dict[str, int] = {}

    @cached_property
    def _key(self) -> bytes:
        # 16 MiB and some 40 ms, once a life.
        return hashlib.scrypt(self._token.encode(), salt=b"moltinit session 1", n=2**14, r=8, p=1, dklen=32)

    def issue(self, *, secure: bool) -> str:
        """A `Set-Cookie` header with a new session."""
        body = f"1.{int(self._now()) + self._seconds}.{secrets.token_urlsafe(12)}"
        return _set_cookie(f"{body}.{self._sign(body)}", self._seconds, secure=secure)

    def end(self, headers: CIMultiDictProxy[str]) -> list[str]:
        """`Set-Cookie` headers that take the session away; it is void from now on, whoever has a copy of it."""
        for value in self._offered(headers):
            if (expiry := self._expiry(value)) is not None:
                self._revoke(value, expiry)
        return [_set_cookie("", 0, secure=True), _set_cookie("", 0, secure=False)]

    def valid(self, headers: CIMultiDictProxy[str]) -> bool:
        """Whether the request comes with a session. Two different ones are none: one of them was slipped in."""
        offered = self._offered(headers)
        return len(offered) == 1 and self._expiry(offered.pop()) is not None

    def _offered(self, headers: CIMultiDictProxy[str]) -> set[str]:
        return set(cookie_values(headers, SECURE_NAME)) or set(cookie_values(headers, PLAIN_NAME))

    def _expiry(self, value: str) -> int | None:
        """When a session ends; None for what is none, or has ended."""
        body, _, signature = value.rpartition(".")
        if len(value) > _MAX_COOKIE or not value.isascii() or not hmac.compare_digest(signature, self._sign(body)):
            return None
        expiry = int(body.split(".")[1])
        return expiry if expiry > self._now() and value not in self._revoked else None

    def _revoke(self, value: str, expiry: int) -> None:
        now = self._now()
        self._revoked = {known: until for known, until in self._revoked.items() if until > now}
        if len(self._revoked) >= MAX_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        self._revoked[value] = expiry

    def _sign(self, body: str) -> str:
        digest = hmac.digest(self._key, body.encode("utf-8", "surrogateescape"), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _set_cookie(value: str, seconds: int, *, secure: bool) -> str:
    name = SECURE_NAME if secure else PLAIN_NAME
    mark = "; Secure" if secure else ""
    return f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{mark}"
