"""A device of one's own at the real gateway: an identity, a signed handshake, and a wish for more scopes that somebody
has to approve."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent_runtime.openclaw.rpc import PROTOCOL, Rpc

CLIENT, MODE, PLATFORM = "cli", "cli", "linux"


class DeviceRpc(Rpc):
    """A connection that presents a device; the handshake's form is in the gateway's docs/gateway/protocol/auth.md."""

    def __init__(self, url: str, *, scopes: tuple[str, ...] = ("operator.read",)) -> None:
        super().__init__(url, None)
        self._key = Ed25519PrivateKey.generate()
        self._public = self._key.public_key().public_bytes_raw()
        self._scopes = scopes

    @property
    def device_id(self) -> str:
        """The digest of its public key."""
        return hashlib.sha256(self._public).hexdigest()

    async def _connect(self) -> dict[str, Any]:
        while (challenge := await self._receive()).get("event") != "connect.challenge":
            pass
        nonce, signed_at = challenge["payload"]["nonce"], int(time.time() * 1000)
        scopes = ",".join(self._scopes)
        signed = "|".join(
            ["v3", self.device_id, CLIENT, MODE, "operator", scopes, str(signed_at), "", nonce, PLATFORM, ""]
        )
        return await self.call(
            "connect",
            {
                "minProtocol": PROTOCOL,
                "maxProtocol": PROTOCOL,
                "client": {"id": CLIENT, "version": "0.1.0", "platform": PLATFORM, "mode": MODE},
                "role": "operator",
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
