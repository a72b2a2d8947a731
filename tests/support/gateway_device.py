"""A device of one's own at the real gateway: an identity, a signed handshake, and a wish for more scopes that somebody
has to approve."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent_runtime.openclaw.rpc import PROTOCOL, Rpc, RpcError

PLATFORM = "linux"


class DeviceRpc(Rpc):
    """A connection that presents a device; the handshake's form is in the gateway's docs/gateway/protocol/auth.md.

    Args:
        client: id and mode, out of the gateway's list; not every kind is approved by itself.
        headers: further headers of the upgrade: what lets it through the front door.
    """

    def __init__(
        self,
        url: str,
        *,
        scopes: tuple[str, ...] = ("operator.read",),
        client: tuple[str, str] = ("cli", "cli"),
        role: str = "operator",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, None)
        self._key = Ed25519PrivateKey.generate()
        self._public = self._key.public_key().public_bytes_raw()
        self._scopes = scopes
        self._client = client
        self._role = role
        self._headers = dict(headers or {})

    @property
    def device_id(self) -> str:
        """The digest of its public key."""
        return hashlib.sha256(self._public).hexdigest()

    async def __aenter__(self) -> DeviceRpc:
        self._session = aiohttp.ClientSession(headers=self._headers)
        try:
            self._socket = await self._session.ws_connect(self._url)
            self.hello = await self._connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def knock(self) -> str:
        """Connect without being paired; returns the gateway's error code, empty where it let the device in."""
        try:
            async with self:
                return ""
        except RpcError as error:
            return error.code

    async def _connect(self) -> dict[str, Any]:
        while (challenge := await self._receive()).get("event") != "connect.challenge":
            pass
        nonce, signed_at = challenge["payload"]["nonce"], int(time.time() * 1000)
        kind, mode = self._client
        scopes = ",".join(self._scopes)
        signed = "|".join(
            ["v3", self.device_id, kind, mode, self._role, scopes, str(signed_at), "", nonce, PLATFORM, ""]
        )
        return await self.call(
            "connect",
            {
                "minProtocol": PROTOCOL,
                "maxProtocol": PROTOCOL,
                "client": {"id": kind, "version": "0.1.0", "platform": PLATFORM, "mode": mode},
                "role": self._role,
                "scopes": list(self._scopes),
                "caps": [],
                "commands": [],
                "permissions": {},
                "locale": "en-US",
                "userAgent": "a test",
                "device": {
                    "id": self.device_id,
                    "publicKey": _base64(self._public),
                    "signature": _base64(self._key.sign(signed.encode())),
                    "signedAt": signed_at,
                    "nonce": nonce,
                },
            },
        )

    async def ask_for_more(self, *scopes: str) -> str:
        """A request that is pending from now on; returns its id."""
        answer = await self.call("device.scopes.requestUpgrade", {"scopes": [*self._scopes, *scopes]})
        return str(answer["requestId"])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
