"""One child process in a session of its own: spawned clean, signalled without races, gone completely at the
end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent_runtime.contract import LaunchSpec
from supervisor.errors import AgentError
from supervisor.init.cell.cell import Cell, orders_in_memory
from supervisor.init.processes import Process, descendants, process_table, read_process
from supervisor.init.reaper import Children
from supervisor.init.strays import Ended, end
from supervisor.process.race import first

READ_BYTES = 64 * 1024
LAST_WORDS_BYTES = 1024 * 1024
"""How much of the output that is still in the pipe is read when the child is gone."""

HURRY_SECONDS = 2.0
"""What is left of a stop's grace once somebody is in a hurry."""


class Child:
    """A running program; made by `spawn`. Belongs to the event loop that it was spawned in."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: Callable[[bytes], None],
        children: Children,
        pidfd: int | None,
        report: int | None = None,
    ) -> None:
        self._process = process
        self._output = output
        self._children = children
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._row = read_process(process.pid)
        self._pipe: int | None = None
        self._report = report
        self._told = b""
        self._entered: asyncio.Future[dict[str, Any]] = self._loop.create_future()

    @classmethod
    def spawn(
        cls,
        spec: LaunchSpec,
        *,
        output: Callable[[bytes], None],
        children: Children,
        cell: Cell | None = None,
        pidfd_open: Callable[[int], int] = os.pidfd_open,
    ) -> Child:
        """Start the program: own session, nothing inherited but stdout and stderr, which go to `output`.

        With a `cell` what starts is the program that enters it and becomes the one wanted; see `entered`.

        Raises:
            AgentError: the program cannot be executed, or the directory cannot be entered.
        """
        report = None
        try:
            if cell is None:
                process = _popen(spec, spec.argv, spec.directory)
            else:
                process, report = _popen_into(cell, spec)
        except OSError as error:
            raise cannot_start(spec, error.strerror or str(error)) from error
        children.add(process.pid)
        try:
            pidfd = pidfd_open(process.pid)
        except OSError:  # a kernel or sandbox without pidfds: a thread waits instead
            pidfd = None
        child = cls(process, output, children, pidfd, report)
        child._watch()
        return child

    async def entered(self) -> dict[str, Any]:
        """What the cell's entrance told, once the program itself runs; `error` is in it where it does not. Without a
        cell it is empty."""
        return await asyncio.shield(self._entered)

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group and session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a death by signal, as in `subprocess`."""
        return self._exited.result() if self._exited.done() else None

    async def wait(self) -> int:
        """Until the program itself has ended; what it left behind may still run (see `clear`)."""
        return await asyncio.shield(self._exited)

    def signal(self, number: signal.Signals) -> None:
        """Signal the program itself, not its group; nothing happens where it has ended."""
        if self._exited.done():
            return
        with suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)  # not reaped yet, so the pid is still its own

    async def stop(self, grace_seconds: float, *, hurry: asyncio.Event | None = None) -> int:
        """TERM, up to `grace_seconds` (less, once `hurry` is set), KILL; then end all that it left behind.

        Returns the exit code.
        """
        self.signal(signal.SIGTERM)
        waits = [self.wait(), asyncio.sleep(grace_seconds)]
        if hurry is not None:
            waits.append(_hurried(hurry))
        await first(*waits)
        await self.clear()
        return await self.wait()

    async def clear(self) -> Ended:
        """Kill the program where it still runs, end everything it started, read its last words.

        What moved to a session of its own is found as well, as long as orphans are reparented to this
        process.
        """
        self.signal(signal.SIGKILL)
        if not self._exited.done():
            # A process in uninterruptible sleep outlives even SIGKILL; the machine's end must not wait for
            # it.
            await first(self.wait(), asyncio.sleep(HURRY_SECONDS))
        ended = await end(self._family, reap=lambda: None, term_seconds=0.5, kill_seconds=2.0)
        self._last_words()
        return ended

    def _watch(self) -> None:
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self._read)
        if self._report is None:
            self._entered.set_result({})
        else:
            os.set_blocking(self._report, False)
            self._loop.add_reader(self._report, self._hear)
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._collect)
        else:
            threading.Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True).start()

    def _read(self) -> bool:
        """One piece of output, so that a chatty child cannot keep the loop to itself; False when there is no
        more."""
        if self._pipe is None:
            return False
        try:
            data = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._output(data)
        else:
            self._close_pipe()
        return bool(data)

    def _last_words(self) -> None:
        for _ in range(LAST_WORDS_BYTES // READ_BYTES):
            if not self._read():
                break
        self._close_pipe()  # also where a process that could not be ended still holds the other end

    def _close_pipe(self) -> None:
        if self._pipe is not None and self._process.stdout is not None:
            self._loop.remove_reader(self._pipe)
            self._process.stdout.close()
            self._pipe = None

    def _hear(self) -> None:
        """The entrance closes its end by becoming the program, or by ending."""
        assert self._report is not None
        try:
            data = os.read(self._report, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._told += data
            return
        self._loop.remove_reader(self._report)
        os.close(self._report)
        self._report = None
        lines = self._told.decode("utf-8", "replace").splitlines()
        told = json.loads(lines[-1]) if lines else {"error": "it ended before it was locked in"}
        self._entered.set_result(told)

    def _collect(self) -> None:
        """Take the exit code; the pid is free for others from here on."""
        if self._exited.done():
            return
        try:
            result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # somebody's waitpid(-1) was faster: an end without a code is a failure
            code = 255
        else:
            if result is None:
                return
            code = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._children.discard(self.pid)
        self._process.returncode = code
        self._exited.set_result(code)

    def _wait_in_thread(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(self._collect)

    def _family(self) -> list[Process]:
        """What runs because of this child: below it, in its session or group, or orphaned since and adopted
        by us."""
        if self._row is None:
            return []
        table = process_table()
        leader = table.get(self.pid)
        reused = leader is not None and leader.start_ticks != self._row.start_ticks
        me, own_session = os.getpid(), os.getsid(0)
        family: set[int] = set() if reused else descendants(self.pid, table)
        for row in table.values():
            if not reused and self.pid in (row.session, row.group, row.pid):
                family.add(row.pid)
            elif (
                row.parent == me
                and row.pid not in self._children
                and row.session != own_session
                and row.start_ticks >= self._row.start_ticks
            ):
                family |= {row.pid, *descendants(row.pid, table)}
        return [table[pid] for pid in family if table[pid].alive]


def cannot_start(spec: LaunchSpec, why: str) -> AgentError:
    """The error for a program that does not run."""
    return AgentError(
        f"cannot start {spec.argv[0]} in {spec.directory}: {why}",
        hint="check that the program is installed, is executable (by the agent's user), and that the directory exists",
    )


def _popen(spec: LaunchSpec, argv: Sequence[str], directory: Path, fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=dict(spec.environment),
        bufsize=0,
        close_fds=True,
        pass_fds=fds,
        start_new_session=True,
    )


def _popen_into(cell: Cell, spec: LaunchSpec) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and the descriptor on which its entrance tells what came of it."""
    orders = orders_in_memory(cell.orders(spec))
    hear, tell = os.pipe()
    try:
        return _popen(spec, cell.command(orders, tell), Path("/"), (orders, tell)), hear
    except BaseException:
        os.close(hear)
        raise
    finally:
        os.close(orders)
        os.close(tell)


async def _hurried(hurry: asyncio.Event) -> None:
    await hurry.wait()
    await asyncio.sleep(HURRY_SECONDS)
