"""Mode `token`: the operator token as a bearer, or a browser's session that began with it."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.errors import SettingsError
from supervisor.http.attempts import Attempts
from supervisor.http.auth import ANYONE, OPERATOR, Access, Headers, Visitor, refuse_cross_site, unauthorized
from supervisor.http.bearers import Bearers
from supervisor.http.login import Login
from supervisor.http.origins import Origins
from supervisor.http.sessions import Sessions

MIN_TOKEN_CHARACTERS = 16


class TokenGatekeeper:
    """Whoever has the operator token is the operator.

    Args:
        token: the operator token.
        bearers: knows the operator token as `bearer`.
        now: seconds since 1970.

    Raises:
        SettingsError: the token is too short to withstand guessing.
    """

    def __init__(
        self,
        token: str,
        origins: Origins,
        bearers: Bearers,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        if len(token) < MIN_TOKEN_CHARACTERS:
            raise SettingsError(
                f"MOLTINIT_OPERATOR_TOKEN is shorter than {MIN_TOKEN_CHARACTERS} characters.",
                hint="Make one with: openssl rand -hex 32",
            )
        self._origins = origins
        self._bearers = bearers
        self._sessions = Sessions(token, now)
        self._attempts = Attempts(monotonic)
        self.login: Login | None = Login(bearers, self._sessions, self._attempts, origins)

    async def admit(self, method: str, headers: Headers, access: Access, *, peer: str = "") -> Visitor:
        if access is Access.OPEN:
            return ANYONE
        visitor = self._identify(headers, peer)
        refuse_cross_site(method, headers, self._origins)
        return visitor

    def _identify(self, headers: Headers, peer: str) -> Visitor:
        if self._sessions.valid(headers):
            # Another Authorization header beside a session is the agent's own business.
            return Visitor(OPERATOR, "session", operator=True, spent_authorization=self.spends(headers))
        if "Authorization" in headers:
            self._attempts.check(peer)
            via = self._bearers.recognise(headers)
            if via is not None:
                return Visitor(OPERATOR, via, operator=True, spent_authorization=True)
            self._attempts.wrong(peer)
        raise unauthorized(
            "The operator token is missing or wrong.",
            hint="Send it as 'Authorization: Bearer …', or open /_admin/login in a browser.",
        )

    def spends(self, headers: Headers) -> bool:
        return self._bearers.among(headers)

    async def close(self) -> None:
        return None
