"""`moltinit mount`: every snapshot as a read-only directory tree."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
from typing import Any

from supervisor.assembly import connect
from supervisor.commands.context import load_settings
from supervisor.errors import UsageError
from supervisor.snapshot.filesystem import SnapshotFileSystem


def main(arguments: argparse.Namespace) -> int:
    """In the foreground, until it is unmounted or interrupted."""
    settings = load_settings()
    target = Path(arguments.directory).absolute()
    if not target.is_dir() or any(target.iterdir()):
        raise UsageError(f"{target} is not an empty directory", hint="make one, and name it")
    fuse = _library()
    files = SnapshotFileSystem(lambda: connect(settings))
    files.ls("")  # what is wrong with the bucket is told before anything is mounted
    print(f"mounted on {target}; `umount {target}` or Ctrl-C ends it", flush=True)
    try:
        fuse.FUSE(_operations(fuse, files), str(target), foreground=True, nothreads=True, ro=True, fsname="moltinit")
    except RuntimeError as error:
        raise UsageError(
            f"{target} cannot be mounted (FUSE says {error})",
            hint="it takes /dev/fuse, and root or the program fusermount; in a container: --device /dev/fuse "
            "--cap-add SYS_ADMIN",
        ) from error
    finally:
        files.close()
    return 0


def _library() -> Any:
    try:
        import mfusepy
    except (ImportError, OSError, AttributeError) as error:
        raise UsageError(
            f"the FUSE library is not there: {error}",
            hint="`pip install moltinit[mount]`, and your distribution's libfuse2 or libfuse3",
        ) from error
    return mfusepy


def _operations(fuse: Any, files: SnapshotFileSystem) -> Any:
    class Snapshots(fuse.Operations):  # type: ignore[misc]
        """FUSE's questions, answered by the file system. What changes something is refused by the mount (`ro`)."""

        use_ns = False

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            try:
                info = files.info(path)
            except OSError as error:
                raise fuse.FuseOSError(error.errno or errno.EIO) from error
            times = dict.fromkeys(("st_mtime", "st_atime", "st_ctime"), info["mtime"])
            owner = {"st_uid": os.geteuid(), "st_gid": os.getegid()}
            return {"st_mode": info["mode"], "st_size": info["size"], "st_nlink": info["nlink"], **times, **owner}

        def readdir(self, path: str, fh: int) -> list[str]:
            try:
                return [".", "..", *(name.rpartition("/")[2] for name in files.ls(path, detail=False))]
            except OSError as error:
                raise fuse.FuseOSError(error.errno or errno.EIO) from error

        def readlink(self, path: str) -> str:
            target: str = files.info(path)["destination"]
            return target

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            try:
                return files.read(path, offset, offset + size)
            except OSError as error:
                raise fuse.FuseOSError(error.errno or errno.EIO) from error

    return Snapshots()
