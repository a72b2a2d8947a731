"""Mode `access`: whoever Cloudflare Access has let through, and machines with the operator token beside it.

Access signs a token for each request and puts it in a header, and in a cookie. The front door checks it again: what
reaches the port by another way than through Cloudflare has no valid one.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor.clock import Clock
from supervisor.http.access_keys import AccessKeys
from supervisor.http.attempts import Attempts
from supervisor.http.auth import (
    ANYONE,
    OPERATOR,
    Access,
    Headers,
    Visitor,
    refuse_cross_site,
    require_operator,
    unauthorized,
)
from supervisor.http.bearers import Bearers
from supervisor.http.cookies import cookie_values
from supervisor.http.origins import Origins

if TYPE_CHECKING:
    from supervisor.http.access_jwt import AccessIdentity
    from supervisor.http.login import Login

HEADER = "Cf-Access-Jwt-Assertion"
COOKIE = "CF_Authorization"
ADDRESS_HEADER = "Cf-Connecting-Ip"
"""Believed of a request with a valid token only, and only to say whence it came."""


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Whose tokens count, and for what.

    Args:
        team: `https://team.cloudflareaccess.com`: the issuer, and where its keys are.
        audiences: tags of the Access applications in front of us.
        operators: e-mail addresses and names of service tokens that may use operators' paths; empty for all.
    """

    team: str
    audiences: tuple[str, ...]
    operators: tuple[str, ...] = ()

    def operates(self, name: str) -> bool:
        """Whether this one is an operator."""
        return not self.operators or name.lower() in {operator.lower() for operator in self.operators}


class AccessGatekeeper:
    """Checks Access tokens.

    Args:
        bearers: secrets that count beside Access.
        on_trouble: see `AccessKeys`.
    """

    login: Login | None = None

    def __init__(
        self,
        rules: AccessRules,
        origins: Origins,
        bearers: Bearers,
        *,
        clock: Clock,
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._rules = rules
        self._origins = origins
        self._bearers = bearers
        self._clock = clock
        self._attempts = Attempts(clock.monotonic)
        self._keys = AccessKeys(rules.team, clock, on_trouble)
        self._imported = False

    async def admit(self, method: str, headers: Headers, access: Access, *, peer: str = "") -> Visitor:
        if access is Access.OPEN:
            return ANYONE
        visitor = await self._identify(headers, peer)
        refuse_cross_site(method, headers, self._origins)
        return require_operator(visitor, access)

    def spends(self, headers: Headers) -> bool:
        return self._bearers.among(headers)

    async def close(self) -> None:
        await self._keys.close()

    async def _identify(self, headers: Headers, peer: str) -> Visitor:
        tokens = _tokens(headers)
        if not tokens:
            return self._by_bearer(headers, peer)
        identities = {await self._verify(token) for token in tokens}
        if len(identities) > 1:
            raise _disagreeing()
        identity = identities.pop()
        trusted = self._bearers.recognise(headers) is not None
        return Visitor(
            identity.name,
            "service" if identity.is_service else "access",
            operator=trusted or self._rules.operates(identity.name),
            address=headers.get(ADDRESS_HEADER, "")[:64],
            spent_authorization=self.spends(headers),
        )

    def _by_bearer(self, headers: Headers, peer: str) -> Visitor:
        if "Authorization" in headers:
            self._attempts.check(peer)
            via = self._bearers.recognise(headers)
            if via is not None:
                return Visitor(OPERATOR, via, operator=True, spent_authorization=True)
            self._attempts.wrong(peer)
        raise unauthorized(
            "The request did not come through Cloudflare Access.",
            hint="Open the address that Access protects; a machine sends its service token there.",
        )

    async def _verify(self, token: str) -> AccessIdentity:
        if not self._imported:
            # The library takes a quarter of a second, which is not for the loop.
            await asyncio.to_thread(importlib.import_module, "jwt")
            self._imported = True
        from supervisor.http.access_jwt import key_id, read_token

        key = await self._keys.key(key_id(token))
        return read_token(token, key, issuer=self._rules.team, audiences=self._rules.audiences, now=self._clock.time())


def _tokens(headers: Headers) -> list[str]:
    """The header's token, and the cookie's where it is another one. All of them have to be good."""
    in_header = headers.getall(HEADER, [])
    in_cookie = cookie_values(headers, COOKIE)
    if len(in_header) > 1 or len(set(in_cookie)) > 1:
        raise _disagreeing()
    return list(dict.fromkeys([*in_header, *in_cookie]))


def _disagreeing() -> Exception:
    from supervisor.http.access_jwt import refused

    return refused(
        "in the header and the one in the cookie, or two of a kind, are not of one person",
        hint="Sign out at /cdn-cgi/access/logout, and in again.",
    )
