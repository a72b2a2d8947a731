"""The whole daemon as PID 1 of a PID namespace."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.namespaces import REPOSITORY, missing_for_namespaces, namespace_members, pid_outside

pytestmark = pytest.mark.root


@contextmanager
def as_pid1(daemon: Daemon) -> Iterator[subprocess.Popen[bytes]]:
    if reason := missing_for_namespaces():
        pytest.skip(reason)
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "supervisor", "run"]
    daemon.place.mkdir(parents=True, exist_ok=True)
    with daemon.log.open("ab") as log:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=daemon.variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


async def test_it_restores_serves_reaps_and_seals(tmp_path: Path) -> None:
    bucket = {"MOLTINIT_BUCKET_URL": f"file://{tmp_path}/bucket"}
    for number, said in enumerate(([], ["one"])):
        daemon = Daemon(tmp_path / str(number), bucket=bucket, MOLTINIT_AGENT="echo")
        with as_pid1(daemon) as process:
            daemon.adopt(process)
            try:
                await daemon.ready(60)
                pid = pid_outside(process)
                assert (await daemon.get("/history"))[1] == {"history": said}
                await daemon.post("/say", {"text": "one"})
                for signal_number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
                    os.kill(pid, signal_number)
                members = namespace_members(pid)
                os.kill(pid, signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 40) == 0, daemon.tail()
                assert len(members) >= 2
                assert all(not os.path.exists(f"/proc/{member}") for member in members)
            finally:
                await daemon.close()
