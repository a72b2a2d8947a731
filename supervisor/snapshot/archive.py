"""A tree as a tar archive (POSIX.1-2001, "pax"), made while it is sent.

Kept are names in whatever bytes, modes, times to the nanosecond, symbolic and hard links, empty directories. Owners are
not: a snapshot knows none. Set-user-id and set-group-id bits are left out: without their owner they would mean whoever
unpacks, who may be root.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Mapping

from supervisor.snapshot.content import ContentReader
from supervisor.snapshot.format import KIND_DIRECTORY, KIND_HARDLINK, KIND_SYMLINK
from supervisor.snapshot.tree import Entry, Tree
from supervisor.store.protocol import Store

WRITE_BYTES = 64 * 1024
"""Headers and small files are sent together."""
MODES = 0o1777

_KINDS = {KIND_DIRECTORY: tarfile.DIRTYPE, KIND_SYMLINK: tarfile.SYMTYPE, KIND_HARDLINK: tarfile.LNKTYPE}


async def archive(store: Store, tree: Tree, path: str = "") -> AsyncGenerator[bytes, None]:
    """The archive of what lies at and below `path`, in pieces. Raises `RepositoryError` and store errors midway."""
    entries = _inside(tree, path)
    reader = ContentReader(store, (blob for entry in entries.values() for blob in entry.blobs))
    pending = bytearray()
    total = 0
    for entry in entries.values():
        pending += header(entry)
        if entry.size:
            async for piece in reader.read(entry.blobs):
                pending += piece
                if len(pending) >= WRITE_BYTES:
                    total += len(pending)
                    yield bytes(pending)
                    pending.clear()
            pending += bytes(-entry.size % tarfile.BLOCKSIZE)
    pending += bytes(2 * tarfile.BLOCKSIZE)
    pending += bytes(-(total + len(pending)) % tarfile.RECORDSIZE)
    yield bytes(pending)


def header(entry: Entry) -> bytes:
    """The header of one name, with its pax records."""
    info = tarfile.TarInfo(entry.path)
    info.type = _KINDS.get(entry.kind, tarfile.REGTYPE)
    info.mode = entry.mode & MODES
    info.size = entry.size
    info.linkname = entry.link
    seconds, fraction = divmod(abs(entry.mtime_ns), 10**9)
    sign = "-" if entry.mtime_ns < 0 else ""
    info.mtime = 0 if sign else seconds
    if fraction or sign:
        info.pax_headers = {"mtime": f"{sign}{seconds}.{fraction:09d}"}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _inside(tree: Tree, path: str) -> Mapping[str, Entry]:
    """The entries at and below `path`. Of the names that share content, the first one carries it: who unpacks reads
    once, from the front, and one of the others may lie outside."""
    from msgspec.structs import replace

    inside = {
        name: entry for name, entry in tree.entries.items() if not path or name == path or name.startswith(path + "/")
    }
    carriers: dict[str, str] = {}
    for name, entry in inside.items():
        owner = entry.link if entry.kind == KIND_HARDLINK else name
        carrier = carriers.setdefault(owner, name)
        if carrier == name and owner != name:
            inside[name] = replace(tree.entries[owner], path=name)
        elif carrier != name:
            inside[name] = replace(entry, kind=KIND_HARDLINK, link=carrier, blobs=())
    return inside
