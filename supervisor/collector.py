"""Python's collector of cycles, out of the way of work that makes many objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Within it nothing is collected: importing the S3 client makes a hundred thousand objects that stay, and looking
    at them over and over takes a quarter of its time."""
    if not gc.isenabled():  # somebody else has paused it, and will go on
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
