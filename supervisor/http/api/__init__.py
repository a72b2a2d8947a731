"""The operator's API, a module for each theme, and the public shapes that moltworker's clients expect.

`reading` is how requests are read, `supervisor.http.answers` how they are answered; each handler does one thing that
`Operations` offers. Methods that change something run to their end whatever the client does: `Endpoints` sees to it.
"""

from __future__ import annotations

from typing import cast

from supervisor.http.api.activity import ActivityApi
from supervisor.http.api.agent import AgentApi
from supervisor.http.api.downloads import DownloadsApi
from supervisor.http.api.logs import LogsApi
from supervisor.http.api.moltworker import MoltworkerApi
from supervisor.http.api.overview import OverviewApi
from supervisor.http.api.reading import MAX_BODY_BYTES
from supervisor.http.api.schemas import COMPONENTS
from supervisor.http.api.snapshots import SnapshotsApi
from supervisor.http.auth import Gatekeeper
from supervisor.http.endpoints import Endpoints
from supervisor.http.openapi import Document, describe
from supervisor.http.operations import Operations
from supervisor.http.tasks import Unhurried

__all__ = ["MAX_BODY_BYTES", "Api", "description"]


class Api:
    """All of it.

    Args:
        unhurried: where operations run that must not be cancelled with the request that reads their result.
    """

    def __init__(self, operations: Operations, unhurried: Unhurried) -> None:
        self._operations = operations
        self._unhurried = unhurried
        self._logs = LogsApi(operations)

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths. `/api/admin/` and `/_admin/` are the front door's as a whole."""
        operations, unhurried = self._operations, self._unhurried
        MoltworkerApi(operations, unhurried).add_to(endpoints)
        OverviewApi(operations, lambda: describe(endpoints.routes(), COMPONENTS)).add_to(endpoints)
        SnapshotsApi(operations, unhurried).add_to(endpoints)
        DownloadsApi(operations, unhurried).add_to(endpoints)
        AgentApi(operations).add_to(endpoints)
        ActivityApi(operations, unhurried).add_to(endpoints)
        self._logs.add_to(endpoints)

    def begin_close(self) -> None:
        """End what would not end by itself."""
        self._logs.begin_close()


def description() -> Document:
    """The OpenAPI document without a daemon."""
    # Nobody is let in, and nothing is asked: only the table is looked at.
    endpoints = Endpoints(cast("Gatekeeper", None))
    Api(cast("Operations", None), Unhurried()).add_to(endpoints)
    return describe(endpoints.routes(), COMPONENTS)
