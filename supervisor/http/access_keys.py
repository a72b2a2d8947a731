"""Cloudflare Access's public keys: fetched when needed, kept for an hour, and a day longer where nobody answers.

The keys change every six weeks; an old one is good for seven days more (Cloudflare's documentation of Access). So a key
that is not known is looked up, but not more often than every ten seconds: anybody can send an invented key id.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp

from supervisor.clock import Clock
from supervisor.http.answers import HttpError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

CERTS_PATH = "/cdn-cgi/access/certs"

FRESH_SECONDS = 3600.0
STALE_SECONDS = 24 * 3600.0
RETRY_SECONDS = 10.0
FETCH_SECONDS = 5.0
MAX_ANSWER_BYTES = 256 * 1024
MAX_KEYS = 32
MIN_KEY_BITS = 2048


class AccessKeys:
    """The keys of one team.

    Args:
        team: `https://team.cloudflareaccess.com`.
        on_trouble: told what is wrong when the keys cannot be fetched, and an empty text when they can again.
    """

    def __init__(self, team: str, clock: Clock, on_trouble: Callable[[str], None] = lambda text: None) -> None:
        self.url = team + CERTS_PATH
        self._clock = clock
        self._on_trouble = on_trouble
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._flight: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def key(self, kid: str) -> RSAPublicKey:
        """The key with this id.

        Raises:
            HttpError: 401 where there is no such key, 503 where that cannot be told.
        """
        if self._age() > FRESH_SECONDS or kid not in self._keys:
            flight = self._refresh()
            # A key that is known serves meanwhile: nobody waits for a slow answer about what he has.
            if flight is not None and not self._usable(kid):
                await asyncio.shield(flight)
        if self._age() > STALE_SECONDS:
            raise HttpError(
                503,
                "access-keys-unavailable",
                f"Cloudflare Access's keys cannot be fetched from {self.url}, so nobody's identity can be checked.",
                hint="Is CF_ACCESS_TEAM_DOMAIN right, and the network up? It is tried again every few seconds.",
                headers={"Retry-After": str(int(RETRY_SECONDS))},
            )
        if kid not in self._keys:
            raise HttpError(401, "access-refused", "The Access token is signed with a key that Access does not have.")
        return self._keys[kid]

    async def count(self) -> int:
        """How many keys there are, looked up if need be; 0 where they cannot be fetched."""
        if self._age() > FRESH_SECONDS and (flight := self._refresh()) is not None:
            await asyncio.shield(flight)
        return len(self._keys) if self._age() <= STALE_SECONDS else 0

    async def close(self) -> None:
        """Give back connections."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait((self._flight,))
        if self._session is not None:
            await self._session.close()

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock.monotonic() - self._fetched_at

    def _usable(self, kid: str) -> bool:
        return kid in self._keys and self._age() <= STALE_SECONDS

    def _refresh(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, a new one, or None where the last one was a moment ago."""
        if self._flight is not None and not self._flight.done():
            return self._flight
        now = self._clock.monotonic()
        if self._tried_at is not None and now - self._tried_at < RETRY_SECONDS:
            return None
        self._tried_at = now
        self._flight = asyncio.get_running_loop().create_task(self._fetch())
        return self._flight

    async def _fetch(self) -> None:
        try:
            # Slow to import, the first time, and so not on the loop.
            await asyncio.to_thread(importlib.import_module, "jwt.algorithms")
            async with asyncio.timeout(FETCH_SECONDS):
                keys = read_keys(await self._answer())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            self._on_trouble(f"Cloudflare Access's keys cannot be fetched from {self.url}: {why}")
            return
        self._keys = keys
        self._fetched_at = self._clock.monotonic()
        self._on_trouble("")

    async def _answer(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True)
        async with self._session.get(self.url, allow_redirects=False, headers={"Accept": "application/json"}) as answer:
            if answer.status != 200:
                # A redirect, too: the keys are where the team is, or nowhere.
                raise ValueError(f"the answer is {answer.status}")
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise ValueError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
            return bytes(body)


def read_keys(document: bytes) -> dict[str, RSAPublicKey]:
    """The usable RSA keys of a JWK set. Raises `ValueError` where there are none."""
    try:
        rows: Any = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("the answer is no set of keys") from error
    keys: dict[str, RSAPublicKey] = {}
    for row in rows[:MAX_KEYS] if isinstance(rows, list) else ():
        kid = row.get("kid") if isinstance(row, dict) else None
        if isinstance(kid, str) and kid not in keys and (key := _rsa_key(row)) is not None:
            keys[kid] = key
    if not keys:
        raise ValueError("the answer holds no usable key")
    return keys


def _rsa_key(row: dict[str, Any]) -> RSAPublicKey | None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import RSAAlgorithm
    from jwt.exceptions import InvalidKeyError

    if row.get("kty") != "RSA" or row.get("alg", "RS256") != "RS256" or row.get("use", "sig") != "sig":
        return None
    public = {name: row[name] for name in ("kty", "n", "e") if isinstance(row.get(name), str)}
    try:
        key = RSAAlgorithm.from_jwk(public)
    except (InvalidKeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS else None
