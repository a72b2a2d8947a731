"""`moltinit config`: what is in force, and where it came from."""

from __future__ import annotations

import argparse

from supervisor.commands.context import load_settings, show_json, table


def main(arguments: argparse.Namespace) -> int:
    """Secrets are masked."""
    rows = load_settings().described
    if arguments.json:
        show_json({row.name: {"value": row.value, "origin": row.origin} for row in rows})
    else:
        table(("SETTING", "VALUE", "FROM"), [(row.name, row.value or "-", row.origin) for row in rows])
    return 0
