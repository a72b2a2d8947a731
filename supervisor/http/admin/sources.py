"""Everything that the page shows, asked of the daemon at one moment. A part that fails says so and fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Generic, TypeVar

from supervisor.errors import MoltinitError
from supervisor.http.operations import Document, Operations

PATIENCE_SECONDS = 4.0
"""For one part: a gateway that hangs must not keep an operator from reading that it does."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """A value, or why there is none."""

    value: _T
    error: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """The daemon, as it answered."""

    now: float
    status: Document
    resources: Document
    cost: Document
    logs: list[Document]
    snapshots: Answer[list[Document]]
    devices: Answer[Document]
    maintenance: Document
    audit: list[Document]
    config: list[Document]


async def ask(work: Awaitable[_T], otherwise: _T, *, seconds: float = PATIENCE_SECONDS) -> Answer[_T]:
    """The answer, or `otherwise` and the reason."""
    try:
        async with asyncio.timeout(seconds):
            return Answer(await work)
    except MoltinitError as error:
        return Answer(otherwise, "; ".join(filter(None, (error.message, error.hint))))
    except TimeoutError:
        return Answer(otherwise, f"There was no answer within {seconds:g} seconds.")


def log_lines(operations: Operations, most: int, wanted: str = "") -> list[Document]:
    """The last lines of the agent's log that contain `wanted`, whatever its case."""
    wanted = wanted.casefold()
    lines = [line for line in operations.agent_logs(0, 1_000_000) if wanted in str(line["text"]).casefold()]
    return lines[-most:]
