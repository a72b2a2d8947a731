"""Working on the bucket without a daemon: reading it, and claiming it properly where something is written."""

from __future__ import annotations
