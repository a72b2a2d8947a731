"""Holding the gateway still for a snapshot: for how long, and what is said of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from agent_runtime.contract import AgentSettings
from agent_runtime.openclaw.rpc import Rpc
from agent_runtime.openclaw.runtime import OpenClaw

LONG = 3600.0


class Gateway:
    """Says that it is suspended, and remembers when it was to go on."""

    def __init__(self, status: str = "ready") -> None:
        self._status = status
        self.asked: list[str] = []
        self.resumed = asyncio.Event()

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(method.removeprefix("gateway.suspend."))
        if method == "gateway.suspend.resume":
            assert parameters == {"suspensionId": "s"}
            self.resumed.set()
        return {"status": self._status, "suspensionId": "s"}


@pytest.fixture
def agent(tmp_path: Path) -> OpenClaw:
    return OpenClaw(AgentSettings(tmp_path, tmp_path / "scratch", 1))


def connect(agent: OpenClaw, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_rpc", lambda: cast("Rpc", gateway))


async def test_it_is_held_until_the_context_is_left(agent: OpenClaw, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    connect(agent, gateway, monkeypatch)
    async with agent.quiesce(LONG) as still:
        assert still
        assert gateway.asked == ["prepare"]
    assert gateway.asked == ["prepare", "resume"]


async def test_it_is_held_no_longer_than_was_said(agent: OpenClaw, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    connect(agent, gateway, monkeypatch)
    async with asyncio.timeout(10), agent.quiesce(0.05) as still:
        assert still
        await gateway.resumed.wait()
        assert not still, "what is read from here on is a live agent's"
    assert gateway.asked == ["prepare", "resume"]


async def test_it_goes_on_when_the_snapshot_is_given_up(agent: OpenClaw, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    connect(agent, gateway, monkeypatch)
    with pytest.raises(OSError, match="disk"):
        async with agent.quiesce(LONG):
            raise OSError("disk")
    assert gateway.asked == ["prepare", "resume"]


async def test_one_that_is_busy_is_not_held(agent: OpenClaw, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway("busy")
    connect(agent, gateway, monkeypatch)
    async with agent.quiesce(LONG) as still:
        assert not still
    assert gateway.asked == ["prepare"]
