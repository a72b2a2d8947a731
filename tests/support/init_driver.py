"""A tiny supervisor for tests, made of `Signals`, `Reaper`, `Child` and `end_strays`; it may be PID 1.

    python -m tests.support.init_driver [--slow-imports] [--own-child] [SCRIPT]

Prints a line for everything that happens. On a stop it ends the child and all strays, and exits with the
child's code.
"""

from __future__ import annotations

from supervisor.init.signals import Signals

signals = Signals()
signals.install()

import asyncio  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

from supervisor.init.processes import own_children  # noqa: E402
from supervisor.init.reaper import Children, Reaper, adopt_orphans  # noqa: E402
from supervisor.init.strays import end_strays  # noqa: E402
from supervisor.process.child import Child  # noqa: E402
from tests.support.agents import shell  # noqa: E402


def say(*words: object) -> None:
    print(*words, flush=True)


class Log:
    def info(self, event: str, **fields: object) -> None:
        say(event, *(f"{name}={value}" for name, value in fields.items()))

    warning = info


def echo(data: bytes) -> None:
    say("child:", data.decode().strip())


async def own_children_are_not_stolen() -> None:
    """Two of our own that the registry does not know: one of asyncio's, one of a thread's."""
    process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.2; exit 41")
    thread = asyncio.to_thread(subprocess.run, ["sh", "-c", "exit 42"], start_new_session=True, check=False)
    say("own children", await process.wait(), (await thread).returncode)


async def report(reaper: Reaper) -> None:
    while True:
        await asyncio.sleep(0.2)
        zombies = sum(1 for child in own_children() if child.state == "Z")
        say("reaped", reaper.reaped, "zombies", zombies, "cpu", round(resource.getrusage(0).ru_utime, 2))


async def main(arguments: list[str]) -> int:
    script = arguments.pop() if arguments and not arguments[-1].startswith("--") else "exec sleep 600"
    signals._log = Log()
    children = Children()
    reaper = Reaper(children, patience=0.3)
    signals.on_child(reaper.wake)
    signals.on_snapshot(lambda: say("snapshot"))
    signals.attach(asyncio.get_running_loop())
    child = Child.spawn(shell(script), output=echo, children=children)
    async with asyncio.TaskGroup() as group:
        reaping = group.create_task(reaper.run())
        reporting = group.create_task(report(reaper))
        if "--own-child" in arguments:
            await own_children_are_not_stolen()
        say("ready", os.getpid())
        await signals.wait_stop()
        say("stopping")
        code = await child.stop(30, hurry=signals.urgent)
        reaping.cancel()
        reporting.cancel()
    ended = await end_strays(reap=lambda: reaper.sweep(patience=0), term_seconds=0.5)
    say("child ended", code, "strays", ended.asked, "killed", ended.killed, "left", len(ended.left))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    adopt_orphans()
    say("installed")
    if "--slow-imports" in sys.argv:
        time.sleep(1.0)
    sys.exit(asyncio.run(main(sys.argv[1:])))
