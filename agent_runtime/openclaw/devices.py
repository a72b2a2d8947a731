"""The gateway's devices over its WebSocket protocol (`device.pair.*`): a connection and a call, a few milliseconds
each, where its own command line takes seconds.

What a device says of itself (its name, its platform) comes from outside and is passed on as it is, without secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent_runtime.contract import DeviceList, RuntimeFault, UnknownDevice
from agent_runtime.openclaw.rpc import Rpc, RpcError, within

CALL_SECONDS = 10.0
MOST_DEVICES = 500
"""Of each kind; more than this nobody reads, and anybody can ask to be paired."""

_SECRET_FIELDS = frozenset({"token", "secret", "password", "privateKey"})


class GatewayDevices:
    """See `DeviceRegistry`.

    Args:
        connect: a connection to the gateway that is not open yet.
    """

    def __init__(self, connect: Callable[[], Rpc]) -> None:
        self._connect = connect

    async def list(self) -> DeviceList:
        answer = await self._call("device.pair.list", {})
        return DeviceList(_rows(answer.get("pending")), _rows(answer.get("paired")))

    async def approve(self, request_id: str) -> str:
        answer = await self._call("device.pair.approve", {"requestId": request_id})
        device = answer.get("device")
        return _text(device.get("deviceId")) if isinstance(device, dict) else ""

    async def reject(self, request_id: str) -> str:
        return _text((await self._call("device.pair.reject", {"requestId": request_id})).get("deviceId"))

    async def remove(self, device_id: str) -> None:
        await self._call("device.pair.remove", {"deviceId": device_id})

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await within(CALL_SECONDS, self._ask(method, parameters))
            return answer
        except RpcError as error:
            if "unknown requestId" in error.message or "unknown deviceId" in error.message:
                name = next(iter(parameters.values()), "")
                raise UnknownDevice(
                    f"the gateway knows no {'request' if 'requestId' in parameters else 'device'} {name!r}",
                    hint="list the devices again: a request ends after a few minutes, or when the device asks anew",
                ) from error
            if error.code == "unreachable":
                hint = "wait until the agent is ready: /readyz"
            else:
                hint = "the agent's log may say more"
            raise RuntimeFault(f"the gateway did not answer {method}: {error.message}", hint=hint) from error

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        async with self._connect() as rpc:
            return await rpc.call(method, parameters)


def _rows(value: Any) -> list[dict[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [_without_secrets(row) for row in rows[:MOST_DEVICES] if isinstance(row, dict)]


def _without_secrets(value: Any) -> Any:
    """The gateway leaves tokens out already; should a version not, they end here."""
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items() if key not in _SECRET_FIELDS}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
