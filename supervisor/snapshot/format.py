"""The repository's objects as they stand in the bucket; docs/format.md is the specification.

Everything read here is untrusted: sizes are bounded before anything is allocated, and types, ranges and references
are checked while decoding. `RepositoryError` says what is wrong with which object.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, TypeVar

import msgspec

from supervisor.errors import RepositoryError, UnsupportedFormat
from supervisor.snapshot import zstd

FORMAT = 1
"""The format version that this program writes, and the newest that it reads."""

HEAD_KEY = "HEAD"
MANIFEST_PREFIX = "manifests/"
PACK_PREFIX = "packs/"
RESCUE_PREFIX = "rescue/"

HASH_BYTES = 16
"""A blob's identity: SHA-256 cut to 128 bits. A collision could only be made by the agent, against its own state."""

MAX_HEAD_BYTES = 4 << 20
MAX_MANIFEST_BYTES = 160 << 20
"""Unpacked; a tree of a hundred thousand files takes a tenth of it, and reading takes several times as much memory."""
MAX_STORED_MANIFEST_BYTES = 64 << 20
MAX_FRAME_BYTES = 64 << 20
MAX_FILE_BYTES = 64 << 30
"""Larger files are left out, and told of: no VM of an agent's has the disk for one, but a sparse one costs nothing to
make, and half a million chunks to describe."""
MAX_CHUNKS = 2 << 20
"""Pieces of content that a snapshot's files have together, repetitions counted: 256 GiB of large files. What goes
beyond is left out, and told of. At about 68 bytes for each, more would not fit `MAX_MANIFEST_BYTES`; and a thousand
sparse files, which cost nothing to make, would take gigabytes of memory to describe."""
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_DEPTH = 256
"""Levels of directories; one descriptor is held for each."""

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Seconds since 1970, up to the year 9999, behind which no calendar goes."""
Place = Annotated[int, msgspec.Meta(ge=0, le=1 << 44)]
"""Bytes in an object."""

KIND_FILE = "f"
KIND_DIRECTORY = "d"
KIND_SYMLINK = "l"
KIND_HARDLINK = "h"

FLAG_TORN = "t"
"""The file never held still while it was read: what is stored may mix two of its states."""
FLAG_DATABASE = "q"
"""An SQLite database, stored from an online backup: complete and without side files."""


class Writer(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds, or last held, the repository. `home` names the local disk, `boot` one life of the daemon."""

    boot: str
    home: str
    host: str = ""
    agent: str = ""
    agent_version: str = ""
    claimed_at: float = 0.0


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """A newcomer's request to the holder; the holder sets `acknowledged`, drains, seals and releases."""

    boot: str
    requested_at: float = 0.0
    acknowledged: bool = False


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One retained snapshot in HEAD's index. Times are seconds since 1970, sizes bytes."""

    sequence: Count
    epoch: Count
    manifest: str
    base: str | None = None
    taken_at: Moment = 0.0
    committed_at: Moment = 0.0
    files: Count = 0
    bytes: Count = 0
    reason: str = ""
    consistent: bool = False
    torn: int = 0
    promoted: bool = True
    damaged: bool = False
    pin: str = ""
    note: str = ""
    agent: str = ""
    agent_version: str = ""
    home: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The only mutable object: who writes, and which snapshots there are (oldest first)."""

    format: int
    repository: str
    sequence: Count
    epoch: Count
    write_id: str
    state: str
    writer: Writer
    handover: HandOver | None = None
    updated_at: float = 0.0
    collected_at: float = 0.0
    usage: dict[str, Any] | None = None
    snapshots: list[SnapshotRecord] = msgspec.field(default_factory=list)


class PackRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`[id, bytes]`: a pack object, `packs/<first two of id>/<id>`."""

    id: str
    size: Place


class FrameRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`[pack, offset, stored bytes, raw bytes]`: one zstd frame within a pack."""

    pack: int
    offset: Place
    stored: Place
    raw: Place


class BlobRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`[hash, frame, offset, bytes]`: a piece of content within a frame's raw bytes."""

    hash: str
    frame: int
    offset: int
    length: int


class EntryRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`[path, kind, mode, mtime in ns, blobs, link, flags]`: one name in the tree."""

    path: str
    kind: str
    mode: int
    mtime_ns: int
    blobs: tuple[int, ...] = ()
    link: str = ""
    flags: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot's tree: whole (`base` is None), or the difference to the whole tree `base`.

    The tables `packs`, `frames`, `blobs` of a difference continue those of its base. `entries` replace or add by path;
    `removed` names paths of the base that are gone.
    """

    format: int
    repository: str
    sequence: int
    epoch: int
    base: str | None = None
    packs: list[PackRow] = msgspec.field(default_factory=list)
    frames: list[FrameRow] = msgspec.field(default_factory=list)
    blobs: list[BlobRow] = msgspec.field(default_factory=list)
    entries: list[EntryRow] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    skipped: dict[str, int] = msgspec.field(default_factory=dict)


class PackFooter(msgspec.Struct, frozen=True, kw_only=True):
    """The table at a pack's end: `frames` as `[offset, stored, raw, [[hash, offset, bytes], ...]]`."""

    format: int
    frames: list[tuple[int, int, int, list[tuple[str, int, int]]]]


PACK_MAGIC = b"MOLTPACK"
"""The last eight bytes of a pack; before them the footer's length (four bytes, little endian), before that the footer
(a zstd frame of JSON)."""


_T = TypeVar("_T", Head, Manifest)


def encode_head(head: Head) -> bytes:
    """HEAD is plain JSON, so that a person can read it."""
    return msgspec.json.encode(head)


def decode_head(data: bytes) -> Head:
    """Raises `RepositoryError` or `UnsupportedFormat`."""
    if len(data) > MAX_HEAD_BYTES:
        raise RepositoryError(f"{HEAD_KEY} has {len(data)} bytes, more than the {MAX_HEAD_BYTES} that it may have")
    return _decode(data, Head, HEAD_KEY)


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest is one zstd frame of JSON. Raises `RepositoryError` for one that no reader would take."""
    raw = msgspec.json.encode(manifest)
    stored = zstd.compress(raw)
    if len(raw) > MAX_MANIFEST_BYTES or len(stored) > MAX_STORED_MANIFEST_BYTES:
        raise RepositoryError(
            f"a tree of {len(manifest.entries)} names takes a manifest of {len(raw)} bytes, more than the "
            f"{MAX_MANIFEST_BYTES} that a reader takes",
            hint="exclude what need not be kept: MOLTINIT_EXCLUDE",
        )
    return stored


def decode_manifest(data: bytes, key: str) -> Manifest:
    """Raises `RepositoryError` or `UnsupportedFormat`."""
    return _decode(zstd.decompress(data, MAX_MANIFEST_BYTES, what=key), Manifest, key)


def _decode(data: bytes, kind: type[_T], key: str) -> _T:
    _check_version(data, key)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RepositoryError(
            f"{key} is not a valid {kind.__name__.lower()}: {error}",
            hint="`moltinit verify` lists what is still whole",
        ) from error


class _Versioned(msgspec.Struct):
    format: int
    encryption: msgspec.Raw | None = None


def _check_version(data: bytes, key: str) -> None:
    try:
        read = msgspec.json.decode(data, type=_Versioned)
        version = read.format
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RepositoryError(f"{key} is damaged: {error}") from error
    if version > FORMAT:
        raise UnsupportedFormat(
            f"{key} has format {version}; this moltinit reads up to {FORMAT}",
            hint="start the moltinit version that wrote it, or a newer one",
        )
    if read.encryption is not None:
        raise UnsupportedFormat(f"{key} is encrypted; this moltinit cannot read it", hint="start a newer version")
    if version < 1:
        raise RepositoryError(f"{key} has format {version}, which never existed")


def to_builtins(value: Any) -> Any:
    """A record as plain dicts and lists, for JSON answers."""
    return msgspec.to_builtins(value)


_ESCAPE = re.compile(r"\\\\|\\x([0-9a-f]{2})")


def encode_path(path: str) -> str:
    r"""A file name as JSON text. Names are bytes: what is not UTF-8 becomes `\xNN`, a backslash `\\`."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def decode_path(text: str) -> str:
    """The inverse of `encode_path`: the name as `os` functions take it."""
    if "\\" not in text:
        return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogatepass"))

    out = bytearray()
    position = 0
    for match in _ESCAPE.finditer(text):
        out += text[position : match.start()].encode("utf-8", "surrogatepass")
        out += bytes([int(match[1], 16)]) if match[1] else b"\\"
        position = match.end()
    out += text[position:].encode("utf-8", "surrogatepass")
    return os.fsdecode(bytes(out))


_MANIFEST_NAME = re.compile(r"[A-Za-z0-9-]{1,200}")


def check_manifest_key(key: str) -> None:
    """Raises `RepositoryError` for what is no manifest's key."""
    if not key.startswith(MANIFEST_PREFIX) or not _MANIFEST_NAME.fullmatch(key.removeprefix(MANIFEST_PREFIX)):
        raise RepositoryError(f"{HEAD_KEY} names {key[:100]!r} as a manifest, which is none")


def pack_key(pack_id: str) -> str:
    """Where a pack lies."""
    return f"{PACK_PREFIX}{pack_id[:2]}/{pack_id}"


def manifest_key(sequence: int, epoch: int, random: str, *, prefix: str = MANIFEST_PREFIX) -> str:
    """A manifest's name; the random part makes it unique, so that no two writers ever meet in one key."""
    return f"{prefix}{sequence:08d}-{epoch:06d}-{random}"


def replace_record(record: SnapshotRecord, **changes: Any) -> SnapshotRecord:
    """A copy with some fields changed."""
    return msgspec.structs.replace(record, **changes)


def replace_head(head: Head, **changes: Any) -> Head:
    """A copy with some fields changed."""
    return msgspec.structs.replace(head, **changes)


def replace_handover(handover: HandOver, **changes: Any) -> HandOver:
    """A copy with some fields changed."""
    return msgspec.structs.replace(handover, **changes)
