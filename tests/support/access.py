"""A stand-in for a Cloudflare Access team: own RSA keys, own certs endpoint, a login that sets the cookie.

Cookies do not know ports, so the login's cookie reaches a front door on the same loopback address.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"
EMAIL = "alice@example.com"
SERVICE = "e367826f93b8d71185e03fe518aff3b4.access"


class SigningKey:
    """An RSA key with an id."""

    def __init__(self, kid: str | None = None, *, bits: int = 2048) -> None:
        self.kid = kid or uuid.uuid4().hex
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=bits)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public part, as the certs endpoint shows it."""
        return {**RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True), **_USE, "kid": self.kid}

    @property
    def public_pem(self) -> bytes:
        """The public part, as a confused verifier would take it for a shared secret."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


_USE = {"use": "sig", "alg": "RS256"}


class FakeAccess:
    """One team with one application. `outage` is what the certs endpoint does instead of answering."""

    def __init__(self, *, now: float | None = None) -> None:
        self.keys = [SigningKey()]
        self.url = ""
        self.now = now
        self.requests = 0
        self.outage: str | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.signs_in = EMAIL

    def rotate(self) -> SigningKey:
        """A new key signs from now on; the one before stays good, as at Cloudflare."""
        self.keys = [SigningKey(), self.keys[0]]
        return self.keys[0]

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a good token says; a change to None leaves the claim out."""
        now = int(self.now if self.now is not None else time.time())
        plain = {
            "aud": [AUDIENCE],
            "email": EMAIL,
            "exp": now + 3600,
            "iat": now,
            "nbf": now,
            "iss": self.url,
            "type": "app",
            "sub": "7335d417-61da-459d-899c-0a01c76a2f94",
            "country": "AT",
        }
        return {name: value for name, value in {**plain, **changes}.items() if value is not None}

    def token(self, *, key: SigningKey | None = None, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A signed token, a person's unless told otherwise."""
        signer = key or self.keys[0]
        return jwt.encode(self.claims(**changes), signer.private, "RS256", {"kid": signer.kid, **(header or {})})

    def service_token(self, name: str = SERVICE, **changes: Any) -> str:
        """As Access makes it for a service token: no person, an empty subject."""
        return self.token(email=None, common_name=name, sub="", **changes)

    async def _certs(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        await self.hold.wait()
        if self.outage == "error":
            return web.Response(status=500)
        if self.outage == "redirect":
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        if self.outage == "nonsense":
            return web.Response(text="<html>", content_type="text/html")
        keys = [key.jwk for key in self.keys]
        if self.outage == "huge":
            return web.json_response({"keys": keys, "padding": "x" * 1_000_000})
        if self.outage == "empty":
            keys = []
        return web.json_response({"keys": keys, "public_cert": {}, "public_certs": []})

    async def _elsewhere(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": [key.jwk for key in self.keys]})

    async def _login(self, request: web.Request) -> web.Response:
        response = web.Response(status=302, headers={"Location": request.query["redirect_url"]})
        response.set_cookie("CF_Authorization", self.token(email=self.signs_in), httponly=True, path="/")
        return response


@asynccontextmanager
async def fake_access(*, now: float | None = None) -> AsyncIterator[FakeAccess]:
    """A running team on loopback; `now` is the time at which it signs, the real one by default."""
    access = FakeAccess(now=now)
    app = web.Application()
    app.router.add_get("/cdn-cgi/access/certs", access._certs)
    app.router.add_get("/cdn-cgi/access/login", access._login)
    app.router.add_get("/elsewhere", access._elsewhere)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    access.url = f"http://{host}:{port}"
    try:
        yield access
    finally:
        access.hold.set()
        await runner.cleanup()


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand, with any header and any signature."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
