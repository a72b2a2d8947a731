from __future__ import annotations

from typing import Any, cast

import pytest

from agent_runtime.contract import RuntimeFault, UnknownDevice
from agent_runtime.openclaw.devices import MOST_DEVICES, GatewayDevices
from agent_runtime.openclaw.rpc import Rpc, RpcError


class Answering:
    """A connection that gives one answer; the real gateway's are asked in tests/e2e."""

    def __init__(self, answer: dict[str, Any] | RpcError) -> None:
        self._answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def __aenter__(self) -> Answering:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((method, parameters))
        if isinstance(self._answer, RpcError):
            raise self._answer
        return self._answer


def devices(answer: dict[str, Any] | RpcError) -> tuple[GatewayDevices, Answering]:
    connection = Answering(answer)
    return GatewayDevices(lambda: cast("Rpc", connection)), connection


async def test_what_the_gateway_says_of_a_device_is_passed_on_without_secrets() -> None:
    registry, _ = devices(
        {
            "pending": [{"requestId": "r", "displayName": "<b>phone</b>"}],
            "paired": [{"deviceId": "d", "token": "sesame", "tokens": [{"role": "operator", "token": "sesame"}]}],
        }
    )
    listed = await registry.list()
    assert listed.pending == [{"requestId": "r", "displayName": "<b>phone</b>"}]
    assert listed.paired == [{"deviceId": "d", "tokens": [{"role": "operator"}]}]


async def test_a_list_is_bounded_and_what_is_no_device_is_left_out() -> None:
    registry, _ = devices({"pending": [{"requestId": str(n)} for n in range(10_000)], "paired": [None, "x", 3]})
    listed = await registry.list()
    assert (len(listed.pending), listed.paired) == (MOST_DEVICES, [])
    assert (await devices({})[0].list()).paired == []


async def test_each_wish_is_one_call() -> None:
    registry, connection = devices({"deviceId": "d", "device": {"deviceId": "d"}})
    assert await registry.approve("r1") == "d"
    assert await registry.reject("r2") == "d"
    await registry.remove("d")
    assert connection.asked == [
        ("device.pair.approve", {"requestId": "r1"}),
        ("device.pair.reject", {"requestId": "r2"}),
        ("device.pair.remove", {"deviceId": "d"}),
    ]


@pytest.mark.parametrize("message", ["unknown requestId", "unknown deviceId"])
async def test_what_the_gateway_does_not_know_is_told_by_its_name(message: str) -> None:
    registry, _ = devices(RpcError("INVALID_REQUEST", message))
    with pytest.raises(UnknownDevice, match="knows no request 'r1'"):
        await registry.approve("r1")


async def test_a_gateway_that_refuses_or_is_away_is_a_fault_with_its_words() -> None:
    for error in (RpcError("UNAVAILABLE", "gateway-suspending"), RpcError("unreachable", "refused")):
        registry, _ = devices(error)
        with pytest.raises(RuntimeFault, match=error.message) as caught:
            await registry.list()
        assert not isinstance(caught.value, UnknownDevice)
        assert caught.value.hint
