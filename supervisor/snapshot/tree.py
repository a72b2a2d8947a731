"""A snapshot's tree in memory, and its translation to and from manifests.

`Pack`, `Frame` and `Blob` say where content lies; an `Entry` is one name. All are shared between trees: a tree that
follows another reuses the entries that did not change, so comparing two trees is comparing identities.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import msgspec

from supervisor.errors import NotFound, RepositoryError
from supervisor.snapshot.format import (
    FLAG_TORN,
    FORMAT,
    HASH_BYTES,
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_HARDLINK,
    KIND_SYMLINK,
    MAX_DEPTH,
    MAX_FRAME_BYTES,
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    BlobRow,
    EntryRow,
    FrameRow,
    Manifest,
    PackRow,
    decode_path,
    encode_path,
)

LATEST_NS = 1 << 63
"""Times beyond this many ns around 1970 (292 years) are refused."""


class Pack(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A pack object; `size` is zero until it is closed."""

    id: str
    size: int = 0


class Frame(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One zstd frame in a pack: where it starts, its bytes there, its bytes unpacked."""

    pack: Pack
    offset: int
    stored: int
    raw: int


class Blob(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """A piece of content: `length` bytes at `offset` of a frame's unpacked bytes, with this hash."""

    hash: bytes
    frame: Frame
    offset: int
    length: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One name. `link` is a symlink's target, or the path that a hard link shares its content with."""

    path: str
    kind: str
    mode: int
    mtime_ns: int
    blobs: tuple[Blob, ...] = ()
    link: str = ""
    flags: str = ""

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(blob.length for blob in self.blobs)

    def same_as(self, other: Entry | None) -> bool:
        """Would restoring either give the same? A directory's own time is not a difference: it changes with every
        file that comes and goes inside, which is a difference already where it matters."""
        if self is other:
            return True
        if other is None or self.kind != other.kind or self.mode != other.mode or self.flags != other.flags:
            return False
        if self.kind == KIND_DIRECTORY:
            return True
        return (
            self.mtime_ns == other.mtime_ns
            and self.link == other.link
            and [blob.hash for blob in self.blobs] == [blob.hash for blob in other.blobs]
        )


@dataclass(frozen=True, slots=True)
class Tree:
    """All names of one snapshot, by path; a directory comes before what is in it."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """Names that are not directories."""
        return sum(1 for entry in self.entries.values() if entry.kind != KIND_DIRECTORY)

    @property
    def bytes(self) -> int:
        """Bytes of content, each file counted."""
        return sum(entry.size for entry in self.entries.values())

    @property
    def torn(self) -> int:
        """Files that never held still."""
        return sum(1 for entry in self.entries.values() if FLAG_TORN in entry.flags)

    def blobs(self) -> Iterator[Blob]:
        """Every piece of content that the tree refers to, with repetitions."""
        for entry in self.entries.values():
            yield from entry.blobs

    def same_as(self, other: Tree) -> bool:
        """Would restoring either give the same?"""
        return self.entries.keys() == other.entries.keys() and all(
            entry.same_as(other.entries[path]) for path, entry in self.entries.items()
        )


@dataclass(slots=True)
class _Tables:
    """Content locations, numbered in the order of their first use."""

    packs: dict[Pack, int] = field(default_factory=dict)
    frames: dict[Frame, int] = field(default_factory=dict)
    blobs: dict[Blob, int] = field(default_factory=dict)

    def number(self, blob: Blob) -> int:
        known = self.blobs.get(blob)
        if known is not None:
            return known
        if blob.frame not in self.frames:
            self.packs.setdefault(blob.frame.pack, len(self.packs))
            self.frames[blob.frame] = len(self.frames)
        self.blobs[blob] = len(self.blobs)
        return self.blobs[blob]

    def number_all(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            for blob in entry.blobs:
                self.number(blob)


@dataclass(slots=True)
class BaseTree:
    """A whole tree that is in the bucket, as the ground that differences stand on. The tree must be the one that
    `whole_manifest` encoded, or `read_tree` decoded, under this key."""

    key: str
    tree: Tree
    encoded_bytes: int
    _tables: _Tables | None = None

    def tables(self) -> _Tables:
        """The numbers of its contents, made when the first difference needs them."""
        if self._tables is None:
            self._tables = _Tables()
            self._tables.number_all(self.tree.entries.values())
        return self._tables


def whole_manifest(tree: Tree, *, repository: str, sequence: int, epoch: int) -> Manifest:
    """The tree on its own."""
    tables = _Tables()
    rows = [_row(entry, tables) for entry in tree.entries.values()]
    return Manifest(
        format=FORMAT,
        repository=repository,
        sequence=sequence,
        epoch=epoch,
        packs=[PackRow(pack.id, pack.size) for pack in tables.packs],
        frames=_frame_rows(tables, 0),
        blobs=_blob_rows(tables, 0),
        entries=rows,
        skipped=dict(tree.skipped),
    )


def difference_manifest(tree: Tree, base: BaseTree, *, repository: str, sequence: int, epoch: int) -> Manifest:
    """The tree as what differs from `base`; its size follows the difference, not the tree."""
    ground = base.tables()
    tables = _Tables(dict(ground.packs), dict(ground.frames), dict(ground.blobs))
    old = base.tree.entries
    rows = [
        _row(entry, tables)
        for path, entry in tree.entries.items()
        if (before := old.get(path)) is not entry and (before is None or entry != before)
    ]
    return Manifest(
        format=FORMAT,
        repository=repository,
        sequence=sequence,
        epoch=epoch,
        base=base.key,
        packs=[PackRow(pack.id, pack.size) for pack in list(tables.packs)[len(ground.packs) :]],
        frames=_frame_rows(tables, len(ground.frames)),
        blobs=_blob_rows(tables, len(ground.blobs)),
        entries=rows,
        removed=[encode_path(path) for path in old if path not in tree.entries],
        skipped=dict(tree.skipped),
    )


def _row(entry: Entry, tables: _Tables) -> EntryRow:
    return EntryRow(
        encode_path(entry.path),
        entry.kind,
        entry.mode,
        entry.mtime_ns,
        tuple(tables.number(blob) for blob in entry.blobs),
        encode_path(entry.link) if entry.link else "",
        entry.flags,
    )


def _frame_rows(tables: _Tables, start: int) -> list[FrameRow]:
    return [
        FrameRow(tables.packs[frame.pack], frame.offset, frame.stored, frame.raw)
        for frame in list(tables.frames)[start:]
    ]


def _blob_rows(tables: _Tables, start: int) -> list[BlobRow]:
    return [
        BlobRow(blob.hash.hex(), tables.frames[blob.frame], blob.offset, blob.length)
        for blob in list(tables.blobs)[start:]
    ]


def read_trees(manifest: Manifest, key: str, base: Manifest | None = None) -> tuple[Tree, Tree]:
    """A manifest (with the one it is based on, where it is a difference) as a tree, and the whole tree that it stands
    on (itself where it is whole). The two share what they have in common.

    The manifests are used up: rows are let go of as they are read, since both at once would take twice the memory.

    Everything is checked that a restore relies on: references, ranges, kinds and paths. Raises `RepositoryError`.
    """
    try:
        if (manifest.base is None) != (base is None):
            raise ValueError("a difference needs its base, and a whole tree has none")
        reader = _Reader()
        if base is None:
            tree = reader.layer(manifest)
            return tree, tree
        if base.base is not None:
            raise ValueError(f"its base is itself a difference to {base.base}")
        base_tree = reader.layer(base)
        return reader.layer(manifest), base_tree
    except (IndexError, ValueError) as error:
        raise RepositoryError(f"{key} contradicts itself: {error}") from error


def read_tree(manifest: Manifest, key: str, base: Manifest | None = None) -> Tree:
    """The first of `read_trees`."""
    return read_trees(manifest, key, base)[0]


class _Reader:
    """The tables of one manifest and its base, which continue each other."""

    def __init__(self) -> None:
        self._packs: list[Pack] = []
        self._frames: list[Frame] = []
        self._blobs: list[Blob] = []
        self._entries: dict[str, Entry] = {}
        self._modes: dict[int, int] = {}

    def layer(self, manifest: Manifest) -> Tree:
        self._packs.extend(_pack(row) for row in manifest.packs)
        self._frames.extend(_frame(row, self._packs) for row in manifest.frames)
        self._blobs.extend(_blob(row, self._frames) for row in _used_up(manifest.blobs))
        entries = dict(self._entries)  # the layer below keeps its own
        for text in manifest.removed:
            entries.pop(decode_path(text), None)
        for row in _used_up(manifest.entries):
            entry = _entry(row, self._blobs, self._modes)
            entries[entry.path] = entry
        if any(before > after for before, after in pairwise(entries)):
            entries = dict(sorted(entries.items()))
        self._entries = entries
        _check_parents(entries)
        return Tree(entries, dict(manifest.skipped))


_Any = TypeVar("_Any")


def _used_up(rows: list[_Any]) -> Iterator[_Any]:
    rows.reverse()
    while rows:
        yield rows.pop()


_Row = TypeVar("_Row", Pack, Frame, Blob)


def _at(rows: list[_Row], index: int, what: str) -> _Row:
    if not 0 <= index < len(rows):
        raise ValueError(f"{what} {index} of {len(rows)}")
    return rows[index]


def _pack(row: PackRow) -> Pack:
    if not (8 <= len(row.id) <= 64 and row.id.isascii() and row.id.replace("-", "").isalnum()):
        raise ValueError(f"{row.id!r} is no pack")
    return Pack(row.id, row.size)


def _frame(row: FrameRow, packs: list[Pack]) -> Frame:
    pack = _at(packs, row.pack, "pack")
    if row.offset < 0 or row.stored <= 0 or row.offset + row.stored > pack.size:
        raise ValueError(f"a frame at {row.offset}+{row.stored} lies outside of its pack of {pack.size} bytes")
    if row.stored > row.raw + (row.raw >> 6) + (64 << 10):  # zstd never makes so much more of it
        raise ValueError(f"a frame of {row.raw} bytes takes {row.stored}")
    if not 0 <= row.raw <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {row.raw} bytes is larger than {MAX_FRAME_BYTES}")
    return Frame(pack, row.offset, row.stored, row.raw)


def _blob(row: BlobRow, frames: list[Frame]) -> Blob:
    frame = _at(frames, row.frame, "frame")
    if row.offset < 0 or row.length <= 0 or row.offset + row.length > frame.raw:
        raise ValueError(f"a blob at {row.offset}+{row.length} lies outside of its frame of {frame.raw} bytes")
    digest = bytes.fromhex(row.hash)
    if len(digest) != HASH_BYTES:
        raise ValueError(f"a hash of {len(digest)} bytes")
    return Blob(digest, frame, row.offset, row.length)


def _entry(row: EntryRow, blobs: list[Blob], modes: dict[int, int]) -> Entry:
    path = checked_path(decode_path(row.path))
    if row.kind not in (KIND_FILE, KIND_DIRECTORY, KIND_SYMLINK, KIND_HARDLINK):
        raise ValueError(f"{row.path!r} is of the unknown kind {row.kind!r}")
    if row.blobs and row.kind != KIND_FILE:
        raise ValueError(f"{row.path!r} has content but is no file")
    if not 0 <= row.mtime_ns + LATEST_NS <= 2 * LATEST_NS:
        raise ValueError(f"{row.path!r} was changed at {row.mtime_ns} ns, which no file system knows")
    link = decode_path(row.link)
    if row.kind == KIND_HARDLINK:
        checked_path(link)
    elif row.kind == KIND_SYMLINK and (not link or "\0" in link or len(os.fsencode(link)) >= MAX_PATH_BYTES):
        raise ValueError(f"{row.path!r} links to no possible place")
    mode = row.mode & 0o7777
    return Entry(
        path,
        row.kind,
        modes.setdefault(mode, mode),
        row.mtime_ns,
        tuple(_at(blobs, index, "blob") for index in row.blobs),
        link,
        row.flags,
    )


def graft(onto: Tree, scion: Tree, path: str) -> Tree:
    """`onto`, but what it has at and below `path` replaced by what `scion` has there. Raises `NotFound` where
    `scion` has nothing there. A hard link whose other name stays outside becomes a file of its own."""
    path = path.strip("/")
    inside = {name: entry for name, entry in scion.entries.items() if name == path or name.startswith(path + "/")}
    if not inside:
        raise NotFound(f"the snapshot has no {path!r}", hint="`moltinit diff` and `moltinit mount` show what it has")
    for name, entry in inside.items():
        if entry.kind == KIND_HARDLINK and entry.link not in inside:
            inside[name] = msgspec.structs.replace(scion.entries[entry.link], path=name)
    kept = {name: entry for name, entry in onto.entries.items() if not (name == path or name.startswith(path + "/"))}
    for name, entry in list(kept.items()):
        if entry.kind == KIND_HARDLINK and entry.link not in kept:
            kept[name] = msgspec.structs.replace(onto.entries[entry.link], path=name)
    parts = path.split("/")
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        if kept.get(above, scion.entries[above]).kind != KIND_DIRECTORY:
            kept = {n: e for n, e in kept.items() if n != above}
        kept.setdefault(above, scion.entries[above])
    return Tree(dict(sorted({**kept, **inside}.items())), onto.skipped)


def checked_path(path: str) -> str:
    """A path that stays inside of the root whatever it is joined to. Raises `ValueError`."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is no path inside of the tree")
    if len(path) > MAX_NAME_BYTES or not path.isascii():
        _check_lengths(path, parts)
    return path


def _check_lengths(path: str, parts: list[str]) -> None:
    """What no disk takes would end a restore half way."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts):
        raise ValueError(f"{path[:100]!r}... is longer than a path may be")
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"{path[:100]!r}... lies deeper than {MAX_DEPTH} directories")


def _check_parents(entries: Mapping[str, Entry]) -> None:
    for path, entry in entries.items():
        parent = path.rpartition("/")[0]
        above = entries.get(parent)
        if parent and (above is None or above.kind != KIND_DIRECTORY):
            raise ValueError(f"{path!r} has no directory to lie in")
        if entry.kind == KIND_HARDLINK:
            target = entries.get(entry.link)
            if target is None or target.kind != KIND_FILE:
                raise ValueError(f"{path!r} shares the content of {entry.link!r}, which is no file")
