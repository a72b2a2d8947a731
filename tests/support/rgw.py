"""Ceph's RADOS Gateway as a second real S3 server: a whole cluster in memory, on loopback, gone at the end.

One monitor, one object store daemon that keeps everything in memory, and the gateway, each a process of ours that is
ended by its pid. It takes about fifteen seconds to start, which is why it has a target of its own (`make test-rgw`).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.support.daemon import free_port

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "monmaptool", "radosgw", "radosgw-admin")
INSTALL = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
START_SECONDS = 120.0

_CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port}]
public_network = 127.0.0.0/8
public_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {place}
log_file = {place}/$name.log
admin_socket = {place}/$name.asok
pid_file =
crash_dir = {place}/crash
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_class_update_on_start = false
mon_allow_pool_size_one = true
mon_data = {place}/monitor
mon_data_avail_crit = 0
osd_data = {place}/osd
osd_objectstore = memstore
memstore_device_bytes = {memory}
rgw_data = {place}/rgw
rgw_dynamic_resharding = false
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_run_sync_thread = false
"""


def missing_programs() -> list[str]:
    """What of Ceph is not installed here."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class RgwServer:
    """The cluster's processes, and keys of one user on it."""

    def __init__(
        self, place: Path, *, memory: int = 2 << 30, keys: tuple[str, str] = ("moltinit", "moltinit-secret")
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access_key_id, self.secret_access_key = keys
        self._place = place
        self._configuration = place / "ceph.conf"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._monitor_port = free_port()
        self._fsid = str(uuid.uuid4())
        self._configuration.write_text(
            _CONFIGURATION.format(fsid=self._fsid, monitor_port=self._monitor_port, place=place, memory=memory)
        )

    def start(self) -> None:
        """Monitor, object store, a user, the gateway."""
        monmap = self._place / "monmap"
        address = f"[v2:127.0.0.1:{self._monitor_port}]"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, str(monmap))
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap))
        self._serve("ceph-mon", "-i", "a")
        (self._place / "osd").mkdir()
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._serve("ceph-osd", "-i", "0")
        keys = (f"--access-key={self.access_key_id}", f"--secret-key={self.secret_access_key}")
        self._run("radosgw-admin", "user", "create", "--uid=moltinit", "--display-name=moltinit", *keys)
        self._serve(
            "radosgw",
            "--id=admin",
            f"--rgw_frontends=beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1",
            # Without these it asks for keys that nobody has, and hangs without a word.
            "--ms_mon_client_mode=crc secure",
            "--auth_client_required=none",
        )
        self._wait_for_port()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, "-c", str(self._configuration), *arguments] if program != "monmaptool" else [program, *arguments],
            capture_output=True,
            text=True,
            cwd=self._place,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def _serve(self, program: str, *arguments: str) -> None:
        with (self._place / f"{program}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [program, "-c", str(self._configuration), "-f", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=self._place,
                )
            )

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            for process in self._processes:
                if process.poll() is not None:
                    name = Path(str(process.args[0])).name  # type: ignore[index]
                    raise RuntimeError(f"{name} ended: {(self._place / f'{name}.out').read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError("the gateway does not answer")
            time.sleep(0.1)

    def client(self) -> Any:
        """A client with the user's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def stop(self) -> None:
        """End what was started, the gateway first; nothing of it is wanted any more."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(20)


@contextmanager
def rgw_server(**options: Any) -> Iterator[RgwServer]:
    """A running cluster (options as of `RgwServer`); its files are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="moltinit-rgw-", ignore_cleanup_errors=True) as place:
        server = RgwServer(Path(place), **options)
        try:
            server.start()
            yield server
        finally:
            server.stop()
