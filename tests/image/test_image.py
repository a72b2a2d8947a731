"""Whole lives in containers of the image: PID 1, a disk that cannot be written, limits, no network but loopback."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.container import HARDENED, IMAGE, Container, container, podman
from tests.support.model_server import ModelServer
from tests.support.s3 import Bucket

pytestmark = [pytest.mark.root, pytest.mark.gateway, pytest.mark.timeout(400)]


@asynccontextmanager
async def vm(
    place: Path, bucket: Bucket, model: ModelServer, options: tuple[str, ...] = HARDENED, **variables: str
) -> AsyncIterator[Container]:
    async with container(
        place,
        bucket=bucket.settings(),
        options=options,
        ANTHROPIC_API_KEY="sk-ant-stand-in-0123456789",
        ANTHROPIC_BASE_URL=model.url,
        **variables,
    ) as life:
        yield life


async def test_a_stopped_container_seals_and_the_next_one_carries_on(
    bucket: Bucket, model: ModelServer, tmp_path: Path
) -> None:
    async with vm(tmp_path / "a", bucket, model) as first:
        await first.ready()
        code, argv = await first.execute("cat", "/proc/1/cmdline")
        assert code == 0
        assert "moltinit" in argv, "it is PID 1"
        assert "HEARD" in await first.talk("remember MARK-one")
        assert "HEARD" in await first.talk("remember MARK-two")
        code, output = await first.execute("moltinit", "status", "--json")
        assert code == 0, output
        assert await first.stop() == 0, first.tail()
        assert first.events("lifecycle.phase")[-1]["phase"] == "exit"
    async with vm(tmp_path / "b", bucket, model) as second:
        await second.ready()
        assert "MARK-one,MARK-two,MARK-three" in await second.talk("and MARK-three"), "the model has the old context"
        assert await second.stop() == 0, second.tail()


async def test_a_killed_container_loses_three_seconds_at_most(
    bucket: Bucket, model: ModelServer, tmp_path: Path
) -> None:
    async with vm(tmp_path / "a", bucket, model) as first:
        await first.ready()
        await first.talk("remember MARK-one")
        await asyncio.sleep(3)
        await first.kill()
    async with vm(tmp_path / "b", bucket, model) as second:
        await second.ready()
        assert "MARK-one" in await second.history()


async def test_a_rollout_hands_over_to_the_new_container(bucket: Bucket, model: ModelServer, tmp_path: Path) -> None:
    async with vm(tmp_path / "a", bucket, model) as old:
        await old.ready()
        await old.talk("remember MARK-one")
        async with vm(tmp_path / "b", bucket, model) as new:
            assert await old.wait() == 0, old.tail()
            await new.ready()
            assert "MARK-one" in await new.history()
            assert await new.stop() == 0, new.tail()


async def test_an_agent_that_the_kernel_kills_for_memory_is_told_from_one_that_crashed(
    bucket: Bucket, model: ModelServer, tmp_path: Path
) -> None:
    async with vm(tmp_path / "a", bucket, model) as life:
        await life.ready()
        await life.talk("remember MARK-one")
        gateway = str((await life.status())["agent"]["pid"])
        # What the agent started eats up the memory, and the kernel takes the agent.
        await life.execute("sh", "-c", f"echo 1000 > /proc/{gateway}/oom_score_adj")
        hog = asyncio.ensure_future(
            life.execute("python3", "-c", "import time\nx = [bytearray(1 << 20) for _ in range(2600)]\ntime.sleep(1)")
        )

        def restarted(count: int) -> Any:
            return lambda code, s: code == 200 and s["ready"] and s["agent"]["restarts"] == count

        status = await life.until("it is back", "/status", restarted(1))
        await hog
        assert "memory" in life.events("agent ended")[-1]["reason"], life.tail()
        await life.execute("kill", "-KILL", str(status["agent"]["pid"]))
        status = await life.until("it is back again", "/status", restarted(2))
        assert "memory" not in life.events("agent ended")[-1]["reason"], life.tail()
        assert status["agent"]["last_exit"] == -signal.SIGKILL
        assert "MARK-one" in await life.history()


async def test_a_full_disk_is_shown_and_nothing_is_lost_once_there_is_room(
    bucket: Bucket, model: ModelServer, tmp_path: Path
) -> None:
    small = tuple(option.replace("size=1g", "size=300m") for option in HARDENED)
    async with vm(tmp_path / "a", bucket, model, options=small) as life:
        await life.ready()
        await life.talk("remember MARK-one")
        await life.saved()
        filler = "/var/lib/moltinit/agent/.openclaw/workspace/filler"
        code, output = await life.execute("dd", "if=/dev/zero", f"of={filler}", "bs=1M")
        assert code != 0, "the disk is full now"
        assert "No space left" in output
        await asyncio.sleep(5)
        assert (await life.get("/livez"))[0] == 200
        code, output = await life.execute("rm", filler)
        assert code == 0, output
        await life.until("it is well again", "/readyz", lambda code, _: code == 200)
        assert "HEARD" in await life.talk("remember MARK-two")
        assert await life.stop() == 0, life.tail()
    async with vm(tmp_path / "b", bucket, model) as second:
        await second.ready()
        assert "MARK-one,MARK-two,MARK-three" in await second.talk("and MARK-three")


async def test_it_runs_as_the_agents_user_too_and_writes_to_two_places_only(
    bucket: Bucket, model: ModelServer, tmp_path: Path
) -> None:
    # Of that user's own, as a volume for him is.
    own = "--mount=type=tmpfs,destination=/var/lib/moltinit,U=true"
    writable = ("--user=10001:10001", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp", own)
    async with vm(tmp_path / "a", bucket, model, options=writable) as life:
        await life.ready()
        await life.talk("remember MARK-one")
        code, output = await podman("diff", life.name)
        assert code == 0, output
        mine = [line for line in output.splitlines() if line.split()[-1].startswith(("/opt", "/usr", "/var/lib/mo"))]
        assert mine == []
        code, output = await life.execute(
            "sh", "-c", "find /var/lib/moltinit/scratch/agent/tmp/node-compile-cache -type f | wc -l"
        )
        assert (code, output.strip()) == (0, "0"), "all compiled code is the image's"
        code, output = await life.execute(
            "sh", "-c", "find /var/lib/moltinit/scratch/agent/tmp/node-compile-cache -type l | wc -l"
        )
        assert (code, output.strip()) == (0, "2")
        assert await life.stop() == 0, life.tail()


async def test_it_refuses_to_listen_to_everyone_without_a_way_to_tell_who_is_asking() -> None:
    code, output = await podman("run", "--rm", "--network=none", IMAGE)
    assert code == 78
    assert "MOLTINIT_OPERATOR_TOKEN" in output


async def test_it_is_a_base_for_other_images(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo more > /etc/more\nENV MOLTINIT_AGENT=echo\n")
    code, output = await podman("build", "--network=host", "--tag=moltinit-test-derived", str(tmp_path))
    assert code == 0, output
    try:
        code, output = await podman(
            "run", "--rm", "--network=none", "--env=MOLTINIT_OPERATOR_TOKEN=0123456789abcdef", "moltinit-test-derived",
            "config", "--json",
        )  # fmt: skip
        assert code == 0, output
        assert '"echo"' in output
    finally:
        await podman("rmi", "--force", "moltinit-test-derived")
