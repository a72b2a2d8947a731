"""What every kind of test may ask for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.rgw import INSTALL, RgwServer, missing_programs, rgw_server
from tests.support.s3 import Bucket, MotoServer, bucket_on, moto_server

if TYPE_CHECKING:
    from playwright.async_api import Browser

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def s3() -> Iterator[MotoServer]:
    """A real S3 server with authentication."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def rgw() -> Iterator[RgwServer]:
    """Ceph's gateway; for tests marked `rgw`."""
    if missing := missing_programs():
        pytest.fail(f"{', '.join(missing)} of Ceph are not installed: {INSTALL}")
    with rgw_server() as server:
        yield server


@pytest.fixture
async def bucket(s3: MotoServer) -> AsyncIterator[Bucket]:
    """A bucket of one's own on it."""
    async with bucket_on(s3) as bucket:
        yield bucket


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A real Chromium; one second to start."""
    from tests.support.browser import chromium

    async with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def openclaw() -> Path:
    """The real gateway's program."""
    named = os.environ.get("MOLTINIT_OPENCLAW_BIN")
    program = Path(named) if named else PROJECT / ".cache/openclaw/node_modules/openclaw/openclaw.mjs"
    if not program.exists():
        pytest.fail(f"the real OpenClaw is not installed ({program}): `make openclaw` does it")
    return program


def pytest_configure(config: pytest.Config) -> None:
    """A place of this session's own: pytest closes its shared one to everybody, the agents' user included, whenever a
    session begins beside this one."""
    if config.option.basetemp is None:
        place = Path(tempfile.mkdtemp(prefix="moltinit-tests-"))
        config.option.basetemp = str(place)
        config.add_cleanup(lambda: shutil.rmtree(place, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need root say so when they cannot run; those that need Ceph run where they are asked for."""
    if "rgw" not in config.option.markexpr:
        ceph = [item for item in items if item.get_closest_marker("rgw")]
        config.hook.pytest_deselected(items=ceph)
        items[:] = [item for item in items if not item.get_closest_marker("rgw")]
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root (namespaces, users)"))
