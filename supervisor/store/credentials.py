"""What a bucket is opened with: keys as they are, or R2 credentials that end by themselves and open one prefix alone.

R2 knows two ways to such credentials (developers.cloudflare.com/r2/api/s3/temporary-credentials): a token signed here
with the parent's secret, which can also name the operations; and one that Cloudflare's API gives out, for which the
parent's secret does not have to be on this machine.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from supervisor.clock import Clock
from supervisor.errors import StoreRefused, StoreUnavailable

ACTIONS = ("GetObject", "HeadObject", "ListObjectsV2", "PutObject", "DeleteObject")
"""All that `Store` does."""
SCOPE = "object-read-write"
TTL_SECONDS = 3600
RENEW_SECONDS = 900
"""So long before the end new ones are made: an outage of the API that is shorter is not felt."""
API = "https://api.cloudflare.com/client/v4"
REQUEST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys for S3; `expires_at` in seconds since 1970, None for keys without an end."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires_at: float | None = None


class CredentialsProvider(Protocol):
    """Has credentials for the next request."""

    async def get(self) -> Credentials:
        """Credentials that last for a while yet: the same object until there are others. Raises `StoreError`."""
        ...

    def forget(self) -> None:
        """They were refused: the next `get` makes new ones, where that is possible."""
        ...


class Fixed:
    """Keys as the operator gave them."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials:
        return self._credentials

    def forget(self) -> None:
        pass


class Minter(Protocol):
    """Makes temporary credentials."""

    async def mint(self, now: float) -> Credentials:
        """New ones, as of `now`. Raises `StoreError`."""
        ...


class Temporary:
    """Mints credentials, and again before they end. While new ones cannot be had the old ones are used to their end."""

    def __init__(self, minter: Minter, clock: Clock) -> None:
        self._minter = minter
        self._clock = clock
        self._current: Credentials | None = None
        self._minting = asyncio.Lock()

    async def get(self) -> Credentials:
        async with self._minting:
            left = self._left()
            if self._current is None or left < RENEW_SECONDS:
                try:
                    self._current = await self._minter.mint(self._clock.time())
                except StoreUnavailable:
                    if self._current is None or left <= 0:
                        raise
            return self._current

    def forget(self) -> None:
        self._current = None

    def _left(self) -> float:
        if self._current is None or self._current.expires_at is None:
            return 0.0
        return self._current.expires_at - self._clock.time()


@dataclass(frozen=True, slots=True)
class Scope:
    """What the credentials open: a bucket of an account, and in it what begins with `prefix` (empty: everything)."""

    account: str
    bucket: str
    prefix: str
    endpoint_host: str

    @property
    def prefixes(self) -> list[str]:
        """As R2 takes them; the slash keeps a neighbour out whose name begins alike."""
        return [f"{self.prefix.strip('/')}/"] if self.prefix.strip("/") else []


class SignedHere:
    """A JWT signed with the parent's secret is the session token; its SHA-256 is the secret."""

    def __init__(self, scope: Scope, *, parent_key_id: str, parent_secret: str) -> None:
        self._scope = scope
        self._key_id = parent_key_id
        self._secret = parent_secret

    async def mint(self, now: float) -> Credentials:
        claims: dict[str, Any] = {
            "bucket": self._scope.bucket,
            "scope": SCOPE,
            "actions": list(ACTIONS),
            "sub": self._scope.account,
            "iss": self._key_id,
            "aud": self._scope.endpoint_host,
            "iat": int(now),
            "exp": int(now) + TTL_SECONDS,
        }
        if self._scope.prefixes:
            claims["paths"] = {"prefixPaths": self._scope.prefixes, "objectPaths": []}
        signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        signature = hmac.digest(self._secret.encode(), signed.encode(), "sha256")
        token = f"{signed}.{_base64url(signature)}"
        return Credentials(
            access_key_id=self._key_id,
            secret_access_key=hashlib.sha256(token.encode()).hexdigest(),
            session_token=base64.b64encode(f"jwt/{token}".encode()).decode(),
            expires_at=float(claims["exp"]),
        )


class FromApi:
    """Asked of Cloudflare's API, which knows no operations, only read and write."""

    def __init__(self, scope: Scope, *, parent_key_id: str, api_token: str, api: str = API) -> None:
        self._scope = scope
        self._key_id = parent_key_id
        self._token = api_token
        self._url = f"{api}/accounts/{scope.account}/r2/temp-access-credentials"

    async def mint(self, now: float) -> Credentials:
        wanted: dict[str, Any] = {
            "bucket": self._scope.bucket,
            "parentAccessKeyId": self._key_id,
            "permission": SCOPE,
            "ttlSeconds": TTL_SECONDS,
        }
        if self._scope.prefixes:
            wanted["prefixes"] = self._scope.prefixes
        result = await self._ask(wanted)
        try:
            return Credentials(
                str(result["accessKeyId"]),
                str(result["secretAccessKey"]),
                str(result["sessionToken"]),
                now + TTL_SECONDS,
            )
        except KeyError as error:
            raise StoreUnavailable(f"{self._what}: the answer has no {error}") from None

    @property
    def _what(self) -> str:
        return f"temporary R2 credentials for {self._scope.bucket}"

    async def _ask(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        import aiohttp

        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, json=wanted, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status in (400, 401, 403, 404):
                    raise StoreRefused(
                        f"{self._what} are refused (status {answer.status})",
                        hint="R2_API_TOKEN needs R2 edit rights, and R2_ACCESS_KEY_ID must be of the same account",
                    )
                if answer.status != 200:
                    raise StoreUnavailable(f"{self._what} cannot be had (status {answer.status})")
                document = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise StoreUnavailable(f"{self._what} cannot be had: {type(error).__name__}") from None
        result = document.get("result") if isinstance(document, dict) else None
        return result if isinstance(result, dict) else {}


def _encoded(document: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(document, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
