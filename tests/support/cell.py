"""Acting inside the agent's cell, and looking from outside at what is in there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent_runtime.contract import LaunchSpec
from supervisor.init.cell.cell import Cell
from supervisor.init.reaper import Children
from supervisor.process.child import Child
from tests.support import adversary
from tests.support.daemon import descendants


async def act(cell: Cell, names: Sequence[str], facts: dict[str, Any], home: Path) -> dict[str, dict[str, Any]]:
    """Attempts, in a process in the cell."""
    said = bytearray()
    program = Path(adversary.__file__)
    child = Child.spawn(
        LaunchSpec(
            (sys.executable, str(program), json.dumps({**facts, "attempts": list(names)})),
            {"HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"},
            home,
            reads=(program, Path(sys.prefix), Path(sys.base_prefix)),
        ),
        output=said.extend,
        children=Children(),
        cell=cell,
    )
    try:
        report = await child.entered()
        assert "error" not in report, report
        async with asyncio.timeout(120):
            await child.wait()
    finally:
        await child.clear()
    results = {}
    for line in said.decode("utf-8", "replace").splitlines():
        if line.startswith('{"name"'):
            result = json.loads(line)
            results[result["name"]] = result
    assert set(names) <= set(results), said.decode("utf-8", "replace")[-2000:]
    return results


def in_memory(supervisor: int, secrets: Sequence[str], uid: int) -> list[str]:
    """Secrets in the memory of the agent's processes, as root sees it."""
    found = []
    looked_at = 0
    for pid in descendants(supervisor):
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            if f"Uid:\t{uid}" not in file.read():
                continue
        looked_at += 1
        with (
            open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps,
            open(f"/proc/{pid}/mem", "rb") as mem,
        ):
            for line in maps:
                if "r" not in line.split()[1] or "[v" in line:
                    continue
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                try:
                    mem.seek(start)
                    content = mem.read(end - start)
                except (OSError, OverflowError, ValueError):
                    continue
                found += [f"{secret[:8]} in {line}" for secret in secrets if secret.encode() in content]
    assert looked_at, "the agent has processes"
    return found
