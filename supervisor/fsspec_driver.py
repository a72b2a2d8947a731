"""`fsspec.filesystem("moltinit")`: the snapshots in the bucket that the environment names (docs/settings.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from supervisor.assembly import connect
from supervisor.settings import load
from supervisor.snapshot.filesystem import SnapshotFileSystem


class MoltinitFileSystem(SnapshotFileSystem):
    """Credentials come from the environment alone: storage options end up in logs and in caches."""

    def __init__(self, **options: Any) -> None:
        settings = load(os.environ, cwd=Path.cwd(), is_root=os.geteuid() == 0)
        super().__init__(lambda: connect(settings), **options)
