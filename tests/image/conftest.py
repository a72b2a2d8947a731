"""These tests need podman, an image and ten minutes: only `make test-image` runs them, in a network of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from tests.support.model_server import ModelServer, model_server

collect_ignore_glob = [] if os.environ.get("MOLTINIT_TEST_IMAGE") else ["test_*.py"]


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    """A stand-in for the model."""
    async with model_server() as server:
        yield server
