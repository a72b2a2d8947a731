"""From an agent's name to its runtime; each is imported only when it is asked for."""

from __future__ import annotations

from agent_runtime.contract import AgentRuntime, AgentSettings, RuntimeFault

NAMES = ("openclaw", "echo")


def make_runtime(name: str, settings: AgentSettings) -> AgentRuntime:
    """The runtime of this name. Raises `RuntimeFault` for a name that is not known."""
    if name == "openclaw":
        from agent_runtime.openclaw.runtime import OpenClaw

        return OpenClaw(settings)
    if name == "echo":
        from agent_runtime.echo.runtime import Echo

        return Echo(settings)
    raise RuntimeFault(f"there is no agent {name!r}", hint=f"use one of: {', '.join(NAMES)}")
