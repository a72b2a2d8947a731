"""Asking the agent after its health: a startup phase, then a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent_runtime.contract import AgentRuntime, Probe
from supervisor.clock import Clock
from supervisor.process.race import first


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """Seconds and counts.

    The start time-out is generous: the gateway takes 8-30 s on a busy machine, more where it migrates its
    state.
    """

    start_timeout: float = 180.0
    start_interval: float = 0.1
    start_interval_most: float = 0.5
    interval: float = 5.0
    timeout: float = 5.0
    failures: int = 3


class Health:
    """The health of one life."""

    def __init__(self, runtime: AgentRuntime, clock: Clock, policy: ProbePolicy) -> None:
        self._runtime = runtime
        self._clock = clock
        self._policy = policy
        self._healthy_since: float | None = None

    @property
    def healthy_seconds(self) -> float:
        """Seconds since startup was complete; 0 where it never was."""
        return 0.0 if self._healthy_since is None else self._clock.monotonic() - self._healthy_since

    async def watch(self, on_healthy: Callable[[], None]) -> str:
        """Until the agent is unhealthy; returns why. `on_healthy` is called once, when it has started."""
        complaint = await self._startup()
        if complaint:
            return complaint
        self._healthy_since = self._clock.monotonic()
        on_healthy()
        return await self._heartbeat()

    async def _startup(self) -> str:
        policy, started = self._policy, self._clock.monotonic()
        pause = policy.start_interval
        while True:
            probe = await self._ask(self._runtime.started)
            if probe.ok:
                return ""
            if self._clock.monotonic() - started >= policy.start_timeout:
                return f"not started within {policy.start_timeout:g} s: {probe.detail}"
            await self._clock.sleep(pause)
            pause = min(pause * 2, policy.start_interval_most)

    async def _heartbeat(self) -> str:
        misses = 0
        while True:
            await self._clock.sleep(self._policy.interval)
            probe = await self._ask(self._runtime.live)
            misses = 0 if probe.ok else misses + 1
            if misses >= self._policy.failures:
                return f"{misses} liveness probes failed in a row: {probe.detail}"

    async def _ask(self, question: Callable[[], Awaitable[Probe]]) -> Probe:
        answers: list[Probe] = []

        async def ask() -> None:
            try:
                answers.append(await question())
            except Exception as error:
                # A probe that breaks is a probe that failed; the reason reaches the operator through
                # `detail`.
                answers.append(Probe(False, f"the probe failed: {type(error).__name__}: {error}"))

        await first(ask(), self._clock.sleep(self._policy.timeout))
        await asyncio.sleep(0)  # a runtime whose probe never waits must not starve the loop
        return answers[0] if answers else Probe(False, f"no answer within {self._policy.timeout:g} s")
