"""The ways to the agent: straight to its port, through the daemon, through nginx."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon import free_port, life

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 1000000;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  upstream agent {{ server 127.0.0.1:{agent}; keepalive 16; keepalive_requests 1000000; }}
  map $http_upgrade $upgraded {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://agent; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded;
    }}
  }}
}}
"""
"""As one would set nginx up for an agent: nothing collected, upgrades passed, connections to the agent kept."""


@dataclass(frozen=True, slots=True)
class Way:
    """A name, the port of 127.0.0.1 where it begins, and the process that it adds; 0 for none."""

    name: str
    port: int
    pid: int = 0

    def cpu_seconds(self) -> float:
        """What that process has used so far (proc_pid_schedstat: nanoseconds on a processor)."""
        if self.pid == 0:
            return 0.0
        with open(f"/proc/{self.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9


@asynccontextmanager
async def ways(place: Path) -> AsyncIterator[list[Way]]:
    """All ways that exist on this machine, each answering."""
    bucket = {"MOLTINIT_BUCKET_URL": f"file://{place}/bucket"}
    async with life(place / "vm", bucket=bucket, MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        await daemon.saved()
        agent = int(daemon.variables["MOLTINIT_AGENT_PORT"])
        found = [Way("direct", agent), Way("moltinit", daemon.port, daemon.pid)]
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            yield found
            return
        port = free_port()
        home = place / "nginx"
        home.mkdir()
        (home / "nginx.conf").write_text(_NGINX.format(place=home, agent=agent, port=port))
        nginx = await asyncio.create_subprocess_exec(
            program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")
        )
        try:
            await _answering(port)
            yield [*found, Way("nginx", port, nginx.pid)]
        finally:
            nginx.terminate()
            await nginx.wait()


async def _answering(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
