"""Who may: the three modes of `MOLTINIT_AUTH`, and what holds in each of them against other people's pages.

A gatekeeper sees the method and the headers, nothing else; it names who is asking or raises `HttpError`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from multidict import CIMultiDictProxy

from supervisor.errors import SettingsError
from supervisor.http.answers import HttpError
from supervisor.http.origins import Origins, is_loopback_name

Headers = CIMultiDictProxy[str]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Access(Enum):
    """Who a path is for."""

    OPEN = "open"
    USER = "user"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is asking. `spent_authorization`: the Authorization header was meant for the front door."""

    name: str
    spent_authorization: bool = False


ANYONE = Visitor("anyone")


class Gatekeeper(Protocol):
    """Lets a request in or refuses it."""

    def admit(self, method: str, headers: Headers, access: Access) -> Visitor:
        """Who is asking. Raises `HttpError` with 401, 403 or 501."""
        ...


class LoopbackGatekeeper:
    """Mode `none`: whoever reaches the loopback address may.

    A browser there runs pages from everywhere, so the Host is checked (a name that an attacker points at
    127.0.0.1 is not ours) and so is the Origin.

    Raises:
        SettingsError: the front door is not bound to loopback.
    """

    def __init__(self, listen_host: str, origins: Origins) -> None:
        if not is_loopback_name(listen_host):
            raise SettingsError(
                f"MOLTINIT_AUTH is none, but MOLTINIT_LISTEN ({listen_host}) is not a loopback address.",
                hint="Set MOLTINIT_OPERATOR_TOKEN, or the Access settings, or listen on 127.0.0.1.",
            )
        self._origins = origins

    def admit(self, method: str, headers: Headers, access: Access) -> Visitor:
        if access is Access.OPEN:
            return ANYONE
        hosts = headers.getall("Host", [])
        if len(hosts) != 1 or not self._origins.is_own_host(hosts[0]):
            raise HttpError(
                403,
                "host-refused",
                "The request's Host header names neither this machine nor a public origin.",
                hint="Open the front door under its loopback address.",
            )
        refuse_cross_site(method, headers, self._origins)
        return Visitor("loopback")


class TokenGatekeeper:
    """Mode `token`: the operator token, as a bearer, or as the password of Basic with any user name.

    A browser asks for the latter by itself.

    Raises:
        SettingsError: the token is too short to withstand guessing.
    """

    def __init__(self, token: str, origins: Origins) -> None:
        if len(token) < 16:
            raise SettingsError(
                "MOLTINIT_OPERATOR_TOKEN is shorter than 16 characters.",
                hint="Make one with: openssl rand -hex 32",
            )
        self._digest = _digest(token)
        self._origins = origins

    def admit(self, method: str, headers: Headers, access: Access) -> Visitor:
        if access is Access.OPEN:
            return ANYONE
        offered = headers.getall("Authorization", [])
        secret = _secret_of(offered[0]) if len(offered) == 1 else None
        if secret is None or not hmac.compare_digest(_digest(secret), self._digest):
            raise HttpError(
                401,
                "unauthorized",
                "The operator token is missing or wrong.",
                hint="Send it as 'Authorization: Bearer …', or log in with it as the password.",
                headers={"WWW-Authenticate": 'Basic realm="moltinit", charset="UTF-8"'},
            )
        refuse_cross_site(method, headers, self._origins)
        return Visitor("operator", spent_authorization=True)


class ClosedGatekeeper:
    """Stands where a mode cannot be enforced: lets nobody in, and says why."""

    def __init__(self, reason: HttpError) -> None:
        self._reason = reason

    def admit(self, method: str, headers: Headers, access: Access) -> Visitor:
        if access is Access.OPEN:
            return ANYONE
        reason = self._reason
        raise HttpError(reason.status, reason.code, reason.message, hint=reason.hint)


def gatekeeper(
    mode: str, *, listen_host: str, operator_token: str | None, public_origins: Sequence[str] = ()
) -> Gatekeeper:
    """The gatekeeper of a mode.

    Args:
        mode: `none`, `token` or `access`.
        public_origins: origins (`https://host`) under which people reach the front door.

    Raises:
        SettingsError: the mode is unknown, or cannot be used with these settings.
    """
    origins = Origins(public_origins)
    if mode == "none":
        return LoopbackGatekeeper(listen_host, origins)
    if mode == "token":
        if not operator_token:
            raise SettingsError("MOLTINIT_AUTH is token, but there is no token.", hint="Set MOLTINIT_OPERATOR_TOKEN.")
        return TokenGatekeeper(operator_token, origins)
    if mode == "access":
        return ClosedGatekeeper(
            HttpError(
                501,
                "access-not-built",
                "Cloudflare Access cannot be checked by this version, so nobody is let in.",
                hint="Set MOLTINIT_AUTH=token and MOLTINIT_OPERATOR_TOKEN.",
            )
        )
    raise SettingsError(f"MOLTINIT_AUTH is {mode!r}.", hint="Use none, token or access.")


def refuse_cross_site(method: str, headers: Headers, origins: Origins) -> None:
    """Refuse what a foreign web page may have made a browser send: an unsafe method or a WebSocket upgrade.

    Raises:
        HttpError: 403.
    """
    upgrade = "Upgrade" in headers
    if method in SAFE_METHODS and not upgrade:
        return
    offered = headers.getall("Origin", [])
    if offered:
        refused = len(offered) != 1 or not origins.is_own_origin(offered[0], headers.get("Host", ""))
    else:
        # No Origin: no browser, or an old one; where the browser says whence, it is believed.
        refused = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    if refused:
        what = "WebSocket upgrade" if upgrade else f"{method} request"
        raise HttpError(
            403,
            "cross-site",
            f"A {what} from another site is refused.",
            hint="If the site is yours, add its origin to the public origins.",
        )


def _digest(secret: str) -> bytes:
    # Of equal length whatever was offered, so that the comparison does not tell the token's length.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _secret_of(authorization: str) -> str | None:
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
