"""Removing from a restored state what says that somebody is using it; OpenClaw's own backup does the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent_runtime.contract import RuntimeFault
from agent_runtime.openclaw.layout import LEASES


def remove_leases(database: Path) -> int:
    """How many rows were removed. Raises `RuntimeFault` where the database cannot be opened."""
    try:
        connection = sqlite3.connect(database, timeout=5.0, isolation_level=None)
        try:
            known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            removed = 0
            for table in LEASES:
                if table in known and connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                    removed += connection.execute(f"DELETE FROM {table}").rowcount
            return removed
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RuntimeFault(
            f"the database {database.name} cannot be used: {error}",
            hint="restore an older snapshot: `moltinit snapshots`, then `moltinit restore NUMBER`",
        ) from error
