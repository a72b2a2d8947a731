"""`moltinit run`: the daemon."""

from __future__ import annotations

import argparse

from supervisor import boot
from supervisor.commands.context import load_settings


def main(arguments: argparse.Namespace) -> int:
    """Until the life ends; its exit code."""
    return boot.run(load_settings())
