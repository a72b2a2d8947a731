"""The operator's API, a module for each theme, and the public shapes that moltworker's clients expect.

`reading` is how requests are read, `supervisor.http.answers` how they are answered; each handler does one thing that
`Operations` offers. Methods that change something run to their end whatever the client does: `Endpoints` sees to it.
"""

from __future__ import annotations

from supervisor.http.api.agent import AgentApi
from supervisor.http.api.downloads import DownloadsApi
from supervisor.http.api.logs import LogsApi
from supervisor.http.api.moltworker import MoltworkerApi
from supervisor.http.api.overview import OverviewApi
from supervisor.http.api.reading import MAX_BODY_BYTES
from supervisor.http.api.schemas import COMPONENTS
from supervisor.http.api.snapshots import SnapshotsApi
from supervisor.http.endpoints import Endpoints
from supervisor.http.openapi import Document, describe
from supervisor.http.operations import Operations
from supervisor.http.tasks import Unhurried

__all__ = ["MAX_BODY_BYTES", "Api"]


class Api:
    """All of it.

    Args:
        unhurried: where operations run that must not be cancelled with the request that reads their result.
    """

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._logs = LogsApi(operations)
        self._endpoints: Endpoints | None = None
        self._parts = (
            MoltworkerApi(operations, unhurried),
            OverviewApi(operations, self.description),
            SnapshotsApi(operations, unhurried),
            DownloadsApi(operations, unhurried),
            AgentApi(operations),
            self._logs,
        )

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths. `/api/admin/` and `/_admin/` are the front door's as a whole."""
        self._endpoints = endpoints
        for part in self._parts:
            part.add_to(endpoints)

    def description(self) -> Document:
        """The OpenAPI document of the paths that were added."""
        return describe(self._endpoints.routes() if self._endpoints else (), COMPONENTS)

    def begin_close(self) -> None:
        """End what would not end by itself."""
        self._logs.begin_close()
