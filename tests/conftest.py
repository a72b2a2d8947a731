"""What every kind of test may ask for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.rgw import INSTALL, RgwServer, missing_programs, rgw_server
from tests.support.s3 import Bucket, MotoServer, bucket_on, moto_server

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


@pytest.fixture(scope="session")
def openclaw() -> Path:
    """The real gateway's program."""
    named = os.environ.get("MOLTINIT_OPENCLAW_BIN")
    program = Path(named) if named else PROJECT / ".cache/openclaw/node_modules/openclaw/openclaw.mjs"
    if not program.exists():
        pytest.fail(f"the real OpenClaw is not installed ({program}): `make openclaw` does it")
    return program


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
