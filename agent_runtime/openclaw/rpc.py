"""The gateway's WebSocket protocol, version 4, as far as a supervisor needs it: one connection, a few calls.

From a direct loopback connection with the gateway's password, the client `gateway-client` in the mode `backend` gets
all scopes without a device of its own.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

PROTOCOL = 4
SCOPES = ("operator.read", "operator.write", "operator.admin", "operator.approvals", "operator.pairing")
MAX_MESSAGE_BYTES = 32 << 20
"""The gateway's own limit is 26 MB (its `policy.maxPayload`)."""


class RpcError(Exception):
    """The gateway said no, or nothing. `code` is its error code, or `unreachable`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Rpc:
    """One connection; calls are made one after another."""

    def __init__(self, url: str, password: str | None, *, version: str = "0.1.0") -> None:
        self._url = url
        self._password = password
        self._version = version
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self.hello: dict[str, Any] = {}

    async def __aenter__(self) -> Rpc:
        import aiohttp

        self._session = aiohttp.ClientSession(trace_configs=[_straight()])
        try:
            self._socket = await self._session.ws_connect(self._url, max_msg_size=MAX_MESSAGE_BYTES)
            self.hello = await self._connect()
        except (aiohttp.ClientError, OSError) as error:
            await self.close()
            raise RpcError("unreachable", str(error)) from error
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _connect(self) -> dict[str, Any]:
        while (await self._receive()).get("event") != "connect.challenge":
            pass
        parameters: dict[str, Any] = {
            "minProtocol": PROTOCOL,
            "maxProtocol": PROTOCOL,
            "client": {"id": "gateway-client", "version": self._version, "platform": "linux", "mode": "backend"},
            "role": "operator",
            "scopes": list(SCOPES),
            "caps": [],
            "commands": [],
            "permissions": {},
            "locale": "en-US",
            "userAgent": "moltinit",
        }
        if self._password is not None:
            parameters["auth"] = {"password": self._password}
        return await self.call("connect", parameters)

    async def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call's payload; events that come in between are passed over. Raises `RpcError`."""
        number = str(uuid.uuid4())
        await self.send(method, parameters or {}, number)
        while True:
            message = await self._receive()
            if message.get("type") != "res" or message.get("id") != number:
                continue
            if message.get("ok"):
                payload = message.get("payload")
                return payload if isinstance(payload, dict) else {}
            told = message.get("error")
            error = told if isinstance(told, dict) else {}
            raise RpcError(str(error.get("code", "error")), str(error.get("message", "no message")))

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        while True:
            message = await self._receive()
            if message.get("type") == "event" and message.get("event") == name:
                payload = message.get("payload")
                return payload if isinstance(payload, dict) else {}

    async def send(self, method: str, parameters: dict[str, Any], number: str) -> None:
        """A request without waiting for its answer."""
        assert self._socket is not None, "used outside of `async with`"
        try:
            await self._socket.send_json({"type": "req", "id": number, "method": method, "params": parameters})
        except (OSError, RuntimeError) as error:
            raise RpcError("unreachable", str(error)) from error

    async def _receive(self) -> dict[str, Any]:
        import aiohttp

        assert self._socket is not None, "used outside of `async with`"
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise RpcError("unreachable", f"the gateway closed the connection ({self._socket.close_code})")
        try:
            document = json.loads(message.data)
        except (ValueError, RecursionError) as error:
            raise RpcError("unreachable", "the gateway sent no JSON") from error
        return document if isinstance(document, dict) else {}


def _straight() -> aiohttp.TraceConfig:
    """aiohttp follows a redirect of the handshake, and the gateway may belong to somebody else by now: it must not send
    the daemon, with its rights and its network, to any address."""
    import aiohttp

    async def refuse(session: aiohttp.ClientSession, context: Any, parameters: Any) -> None:
        raise aiohttp.ClientError("the answer is a redirect")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config


async def within(seconds: float, work: Any) -> Any:
    """The result of `work`, or `RpcError` when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise RpcError("unreachable", f"no answer within {seconds:.1f} s") from None
