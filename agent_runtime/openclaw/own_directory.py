"""A directory at a place that others know and may have taken: made, and looked at before it is believed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def have_own_directory(path: Path, uid: int) -> bool:
    """See to it that `path` is a directory of this user, and no link to one; returns whether it is.

    What else is there is removed, where that may be done: in a directory for all (sticky), where it is the user's own.
    """
    for _ in range(2):
        with suppress(OSError):
            path.mkdir(parents=True, mode=0o700)
        try:
            found = os.lstat(path)
        except OSError:
            return False
        if stat.S_ISDIR(found.st_mode):
            return found.st_uid == uid
        with suppress(OSError):
            path.unlink()
    return False
