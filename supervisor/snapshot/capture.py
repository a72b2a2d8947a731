"""From the tree on disk to a tree of entries: what changed is read, what did not is taken from the last time.

A capture runs in one worker thread. Order matters: databases first, back to back, so that they agree with each other
as nearly as a running agent allows; then the names once more, then the files, so that a file that a database refers
to is never missed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from supervisor.snapshot.descend import Root
from supervisor.snapshot.format import (
    FLAG_DATABASE,
    FLAG_TORN,
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_HARDLINK,
    KIND_SYMLINK,
    MAX_CHUNKS,
    MAX_FILE_BYTES,
)
from supervisor.snapshot.pack import CHUNK_BYTES, WHOLE_BYTES, PackBuilder, Slot, resolve
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.snapshot.scan import Found, Scan, Signature, scan
from supervisor.snapshot.sqlite import MAGIC, SIDE_FILES, Busy, Damaged, owner_of_side_file
from supervisor.snapshot.sqlite_client import DatabaseCopies, Server
from supervisor.snapshot.tree import LATEST_NS, Blob, Entry, Tree

READ_ATTEMPTS = 3
"""How often a file that changes while it is read is read again before it is stored as torn."""

SETTLE_NS = 20_000_000
"""A file changed this shortly before the walk may change again within the same tick of the file system's clock, and
look the same: it is read again next time. Ticks are up to 10 ms long on kernels before 6.13."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the last capture learnt of a name. A database is told by the signatures of its log, too."""

    signatures: tuple[Signature | None, ...]
    entry: Entry
    settled: bool


@dataclass(frozen=True, slots=True)
class Captured:
    """A tree whose content is in the emitted packs, or was in the bucket before."""

    tree: Tree
    known: Mapping[str, Known]
    read_bytes: int
    stored_bytes: int
    seconds: float
    damaged_databases: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be read this time; what was known of it stands."""


@dataclass(slots=True)
class _Draft:
    """An entry whose content is in packs that are not closed yet."""

    found: Found
    kind: str
    places: list[Blob | Slot] = field(default_factory=list)
    link: str = ""
    flags: str = ""
    signatures: tuple[Signature | None, ...] = ()
    settled: bool = True


@dataclass(frozen=True, slots=True)
class _Copy:
    """A database's copy, and what the database looked like before it was made."""

    path: Path
    signatures: tuple[Signature | None, ...]
    settled: bool


class _TooLarge(Exception):
    """The file, or with it the snapshot, is larger than the format describes."""


class Capture:
    """Reads one root again and again; what it knows of it (`known`) is handed from one capture to the next."""

    def __init__(
        self,
        root: Path,
        *,
        rules: SkipRules,
        classes: Classes,
        scratch: Path,
        volatile_tables: Sequence[str] = (),
        databases: Server | None = None,
    ) -> None:
        self._root = root
        self._databases = databases or Server.default()
        self.volatile_tables = tuple(volatile_tables)
        self._rules = rules
        self._classes = classes
        self._scratch = scratch

    def changed(self, known: Mapping[str, Known]) -> bool:
        """Does a walk find anything that a capture would have to read or drop? It errs on the side of yes."""
        walked = scan(self._root, self._rules)
        names = {path: found for path, found in walked.found.items() if not _is_side_file(path, walked.found, known)}
        if names.keys() != known.keys():
            return True
        return any(
            not (before := known[path]).settled or not _unchanged(before, _signatures(found, walked.found, before))
            for path, found in names.items()
        )

    def run(
        self,
        known: Mapping[str, Known],
        builder: PackBuilder,
        *,
        check_databases: bool,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Captured:
        """Capture the tree. `progress(files read, files to read)` is called now and then, from this thread.

        Raises `OSError` where the root cannot be walked, and whatever emitting a pack raises.
        """
        started = time.monotonic()
        self._scratch.mkdir(parents=True, exist_ok=True)
        os.chmod(self._scratch, 0o700)
        with Root(self._root) as root, DatabaseCopies(self._databases, root.fd) as databases:
            if _database_changed(root, known):
                databases.start()  # while the tree is walked
            run = _Run(root, self, known, builder, databases, check_databases, progress)
            try:
                run.collect(self._scan)
            finally:
                run.remove_copies()
        return run.result(time.monotonic() - started)

    def _scan(self) -> Scan:
        return scan(self._root, self._rules)

    @property
    def classes(self) -> Classes:
        """The restore classes, by which contents are ordered."""
        return self._classes

    @property
    def scratch(self) -> Path:
        """Where database copies are made."""
        return self._scratch


class _Run:
    """One capture's working state."""

    def __init__(
        self,
        root: Root,
        capture: Capture,
        known: Mapping[str, Known],
        builder: PackBuilder,
        databases: DatabaseCopies,
        check_databases: bool,
        progress: Callable[[int, int], None],
    ) -> None:
        self._root = root
        self._databases = databases
        self._classes = capture.classes
        self._volatile_tables = capture.volatile_tables
        self._scratch = capture.scratch
        self._known = known
        self._builder = builder
        self._check = check_databases
        self._progress = progress
        self._copies: dict[str, _Copy] = {}
        self._drafts: dict[str, _Draft] = {}
        self._kept: dict[str, Known] = {}
        self._parted: dict[str, str] = {}
        self._chunks_left = MAX_CHUNKS
        self._skipped: Counter[str] = Counter()
        self._damaged: list[str] = []
        self._unread: list[str] = []
        self._raw_databases: set[str] = set()
        self._first_of: dict[tuple[int, int], str] = {}
        self._holes: dict[int, Blob | Slot] = {}

    def collect(self, walk: Callable[[], Scan]) -> None:
        walked_at = time.time_ns()
        walked = walk()
        if self._copy_databases(walked):
            walked_at = time.time_ns()
            walked = walk()
        self._skipped.update(walked.skipped)
        self._unread.extend((*walked.unreadable, *walked.left_out))
        self._carry_over(walked.unreadable)
        self._take_names(walked)
        self._chunks_left -= self._chunks_that_stand(walked)
        self._read_files(walked, walked_at)
        self._builder.finish()

    # -- databases

    def _copy_databases(self, walked: Scan) -> bool:
        """Copy the changed ones among those that can be told without opening every file; the rest is found by its
        first bytes while files are read."""
        candidates = [
            found
            for path, found in walked.found.items()
            if found.is_file
            and (
                (path in self._known and FLAG_DATABASE in self._known[path].entry.flags)
                or any(path + suffix in walked.found for suffix in SIDE_FILES)
                or path.endswith((".sqlite", ".sqlite3", ".db"))
            )
        ]
        for found in candidates:
            before = self._known.get(found.path)
            signatures = _signatures(found, walked.found, None)
            if before is not None and before.settled and _unchanged(before, signatures) and not self._is_stale(before):
                continue
            if self._has_magic(found.path):
                self._copy_database(found, signatures)
        return bool(self._copies)

    def _has_magic(self, path: str) -> bool:
        try:
            fd = self._open(path)
        except OSError:
            return False
        try:
            return os.read(fd, len(MAGIC)) == MAGIC
        except OSError:
            return False
        finally:
            os.close(fd)

    def _copy_database(self, found: Found, signatures: tuple[Signature | None, ...]) -> None:
        path = found.path
        copy = self._scratch / f"database-{len(self._copies)}"
        size = sum(signature.size for signature in signatures if signature is not None)
        newest = max(signature.ctime_ns for signature in signatures if signature is not None)
        # What is written after this may be missing from the copy.
        settled = time.time_ns() - newest > SETTLE_NS
        try:
            finding = self._databases.copy(path, copy, self._volatile_tables, size=size, check=self._check)
        except Busy:
            # The last good copy stands, and the next capture tries again.
            copy.unlink(missing_ok=True)
            self._skip(path, "database-busy")
            self._keep_old(path)
        except Damaged:
            copy.unlink(missing_ok=True)
            self._damaged.append(path)
            self._raw_databases.add(path)
        else:
            if finding is not None:
                self._damaged.append(path)
            self._copies[path] = _Copy(copy, self._touched(path, signatures), settled)

    def _touched(self, path: str, signatures: tuple[Signature | None, ...]) -> tuple[Signature | None, ...]:
        """As root, SQLite gives a log that it opens to the database's owner, which dates its status anew (ctime):
        without the signature from after that, each capture would find changed what only the one before has touched."""
        seen = [*signatures]
        for number, suffix in ((1, "-wal"), (2, "-journal")):
            before = seen[number] if number < len(seen) else None
            if before is None:
                continue
            with contextlib.suppress(OSError):
                directory, name = self._root.parent(path + suffix)
                now = Signature.of(os.stat(name, dir_fd=directory, follow_symlinks=False))
                if msgspec.structs.replace(now, ctime_ns=before.ctime_ns) == before:
                    seen[number] = now
        return tuple(seen)

    def remove_copies(self) -> None:
        for copied in self._copies.values():
            copied.path.unlink(missing_ok=True)

    # -- names

    def _carry_over(self, unreadable: tuple[str, ...]) -> None:
        for directory in unreadable:
            for path in self._known:
                if path == directory or path.startswith(directory + "/"):
                    self._keep_old(path)

    def _skip(self, path: str, reason: str) -> None:
        self._skipped[reason] += 1
        self._unread.append(path)

    def _keep_old(self, path: str) -> None:
        if (before := self._known.get(path)) is None:
            return
        entry = before.entry
        if entry.kind == KIND_HARDLINK and entry.link in self._known:
            # The other name may be gone by now; what both shared is not.
            self._parted[path] = entry.link
            entry = msgspec.structs.replace(self._known[entry.link].entry, path=path)
        self._kept[path] = Known((), entry, settled=False)

    def _take_names(self, walked: Scan) -> None:
        """Everything that needs no reading: directories, links, and files that did not change."""
        for path, found in walked.found.items():
            if path in self._kept or self._is_side_file(path, walked):
                continue
            if found.is_directory:
                self._drafts[path] = _Draft(found, KIND_DIRECTORY, signatures=(found.signature,))
            elif found.is_symlink:
                self._take_symlink(found)
            elif found.signature.size > MAX_FILE_BYTES:
                self._skip(path, "too-large")
                self._keep_old(path)
            elif found.is_file:
                self._take_if_unchanged(found, walked)

    def _is_side_file(self, path: str, walked: Scan) -> bool:
        owner = owner_of_side_file(path)
        if owner is None or owner in self._raw_databases:
            return False
        return owner in self._copies or _is_side_file(path, walked.found, self._known)

    def _take_symlink(self, found: Found) -> None:
        try:
            directory, name = self._root.parent(found.path)
            target = os.readlink(name, dir_fd=directory)
        except OSError:
            self._skipped["vanished"] += 1
            return
        self._drafts[found.path] = _Draft(found, KIND_SYMLINK, link=target, signatures=(found.signature,))

    def _take_if_unchanged(self, found: Found, walked: Scan) -> None:
        before = self._known.get(found.path)
        if before is None or found.path in self._copies or before.entry.kind not in (KIND_FILE, KIND_HARDLINK):
            return
        if self._is_stale(before) or not before.settled:
            return
        if not _unchanged(before, _signatures(found, walked.found, before)):
            return
        if found.links > 1 and before.entry.link != self._first_name(found.path, found.signature):
            return
        self._kept[found.path] = before

    def _first_name(self, path: str, signature: Signature) -> str:
        """The name under which this capture met the file before; empty where this is the first."""
        first = self._first_of.setdefault((signature.device, signature.inode), path)
        return "" if first == path else first

    def _is_stale(self, before: Known) -> bool:
        return any(self._builder.is_stale(blob) for blob in before.entry.blobs)

    # -- contents

    def _read_files(self, walked: Scan, walked_at: int) -> None:
        todo = [
            found
            for path, found in walked.found.items()
            if found.is_file
            and found.signature.size <= MAX_FILE_BYTES
            and path not in self._kept
            and path not in self._drafts
            and not self._is_side_file(path, walked)
        ]
        todo.sort(key=lambda found: (self._classes.of(found.path), found.path))
        for number, found in enumerate(todo):
            if number % 256 == 0:
                self._progress(number, len(todo))
            try:
                self._read_file(found, walked, walked_at)
            except _TooLarge:
                self._skip(found.path, "too-large")
                self._keep_old(found.path)
        self._progress(len(todo), len(todo))

    def _read_file(self, found: Found, walked: Scan, walked_at: int) -> None:
        path = found.path
        if path not in self._copies and path not in self._raw_databases and self._has_database_magic(found):
            self._copy_database(found, _signatures(found, walked.found, None))
            if path in self._kept:
                return
        if path in self._copies:
            self._read_copy(found)
            return
        try:
            draft = self._read_plain(found)
        except (FileNotFoundError, NotADirectoryError):
            self._skipped["vanished"] += 1
        except OSError:
            # Not readable (EACCES, EIO, a link in the way): what was known of it stands.
            self._skip(path, "unreadable")
            self._keep_old(path)
        else:
            draft.settled = (
                FLAG_TORN not in draft.flags
                and draft.signatures[0] is not None
                and walked_at - draft.signatures[0].ctime_ns > SETTLE_NS
            )
            self._drafts[path] = draft
            self._spend_chunks(path, draft)

    # Each file's chunks of the last time are reserved for it, so that what is kept always fits; only growth is refused.

    def _chunks_that_stand(self, walked: Scan) -> int:
        standing = {path for path in self._known if path in walked.found or path in self._kept}
        standing.update([link for path in standing if (link := self._known[path].entry.link) in self._known])
        return sum(len(self._known[path].entry.blobs) for path in standing)

    def _check_chunks(self, path: str, size: int) -> None:
        growth = _chunks(size) - self._chunks_before(path)
        if size > MAX_FILE_BYTES or growth > max(0, self._chunks_left):
            raise _TooLarge(path)

    def _spend_chunks(self, path: str, draft: _Draft) -> None:
        self._chunks_left -= len(draft.places) - self._chunks_before(path)

    def _chunks_before(self, path: str) -> int:
        before = self._known.get(path)
        return len(before.entry.blobs) if before is not None else 0

    def _has_database_magic(self, found: Found) -> bool:
        return found.signature.size >= 512 and self._has_magic(found.path)

    def _read_copy(self, found: Found) -> None:
        copied = self._copies[found.path]
        draft = _Draft(found, KIND_FILE, flags=FLAG_DATABASE, signatures=copied.signatures, settled=copied.settled)
        with open(copied.path, "rb", buffering=0) as file:
            copied.path.unlink()
            size = os.fstat(file.fileno()).st_size
            self._check_chunks(found.path, size)
            draft.places = list(self._store(file.fileno(), size))
        self._spend_chunks(found.path, draft)
        self._drafts[found.path] = draft

    def _read_plain(self, found: Found) -> _Draft:
        fd = self._open(found.path)
        try:
            for _ in range(READ_ATTEMPTS):
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode):
                    raise FileNotFoundError(found.path)
                signature = Signature.of(before)
                if before.st_nlink > 1 and (first := self._first_name(found.path, signature)):
                    # Told by what is open here, not by the walk: the other name may be another file by now.
                    return _Draft(found, KIND_HARDLINK, link=first, signatures=(signature,))
                self._check_chunks(found.path, before.st_size)
                places = list(self._store(fd, before.st_size))
                after = os.fstat(fd)
                if _same_content(before, after):
                    return _Draft(found, KIND_FILE, places, signatures=(signature,))
            return _Draft(found, KIND_FILE, places, flags=FLAG_TORN, signatures=(signature,))
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        directory, name = self._root.parent(path)
        return os.open(name, _READ, dir_fd=directory)

    def _store(self, fd: int, size: int) -> Iterator[Blob | Slot]:
        piece = _piece(size)
        offset, data_at = 0, 0
        while offset < size:
            length = min(piece, size - offset)
            if offset >= data_at:
                data_at = _next_data(fd, offset, size)
            if offset + length <= data_at:
                offset += length
                yield self._hole(length)
                continue
            data = os.pread(fd, length, offset)
            if not data:
                return  # it was cut while it was read: the signature after tells
            offset += len(data)
            yield self._builder.add(data)

    def _hole(self, length: int) -> Blob | Slot:
        """Zeros that need no reading: a sparse file costs what is in it."""
        if length not in self._holes:
            self._holes[length] = self._builder.add(bytes(length))
        return self._holes[length]

    # -- result

    def result(self, seconds: float) -> Captured:
        known = dict(self._kept)
        for path, draft in self._drafts.items():
            known[path] = Known(draft.signatures, self._entry(path, draft), draft.settled)
        self._drop_strays(known)
        self._join_again(known)
        known = dict(sorted(known.items()))
        entries = {path: item.entry for path, item in known.items()}
        return Captured(
            Tree(entries, dict(self._skipped)),
            known,
            self._builder.raw_bytes,
            self._builder.stored_bytes,
            seconds,
            tuple(self._damaged),
            tuple(self._unread),
        )

    def _entry(self, path: str, draft: _Draft) -> Entry:
        blobs: tuple[Blob, ...] = tuple(resolve(place) for place in draft.places)
        signature = draft.signatures[0] or draft.found.signature
        entry = Entry(
            path,
            draft.kind,
            stat.S_IMODE(signature.mode),
            max(-LATEST_NS, min(signature.mtime_ns, LATEST_NS)),
            blobs,
            draft.link,
            draft.flags,
        )
        before = self._known.get(path)
        if before is not None and (before.entry == entry or _same_database(before.entry, entry)):
            return before.entry
        return entry

    @staticmethod
    def _drop_strays(known: dict[str, Known]) -> None:
        """A name whose directory, or whose hard link's content, vanished during the capture goes with it."""
        for path in sorted(known):
            parent = path.rpartition("/")[0]
            if parent and (parent not in known or known[parent].entry.kind != KIND_DIRECTORY):
                del known[path]
        for path, entry in [(path, item.entry) for path, item in known.items()]:
            if entry.kind == KIND_HARDLINK and (entry.link not in known or known[entry.link].entry.kind != KIND_FILE):
                del known[path]

    def _join_again(self, known: dict[str, Known]) -> None:
        """Hard links that were kept without a look at them share their content again with whichever name is left of
        it: each would list all of it otherwise."""
        owners: dict[str, str] = {}
        for path, link in sorted(self._parted.items()):
            if path not in known:
                continue
            entry = known[path].entry
            owner = link if link in known and known[link].entry.blobs is entry.blobs else owners.setdefault(link, path)
            if owner != path:
                joined = msgspec.structs.replace(entry, kind=KIND_HARDLINK, blobs=(), link=owner)
                known[path] = Known((), joined, settled=False)


def _piece(size: int) -> int:
    return size if size <= WHOLE_BYTES else CHUNK_BYTES


def _chunks(size: int) -> int:
    return -(-size // _piece(size)) if size else 0


def _signatures(found: Found, names: Mapping[str, Found], before: Known | None) -> tuple[Signature | None, ...]:
    """A name's signature; for a database together with those of its log and journal (the shared-memory file is not
    content). Without `before`, side files that exist are taken for a database's."""
    plain = before is not None and FLAG_DATABASE not in before.entry.flags
    if plain:
        return (found.signature,)
    sides = (names.get(found.path + "-wal"), names.get(found.path + "-journal"))
    if before is None and not any(sides):
        return (found.signature, None, None)
    return (found.signature, *(_side(side.signature) if side else None for side in sides))


def _side(signature: Signature) -> Signature | None:
    """An empty log holds nothing, and is as good as none: reading a database that nobody uses leaves one behind."""
    return signature if signature.size else None


def _database_changed(root: Root, known: Mapping[str, Known]) -> bool:
    """Is one of the known databases going to be copied, as far as a look at it alone tells?"""
    for path, before in known.items():
        if FLAG_DATABASE not in before.entry.flags:
            continue
        if not before.settled:
            return True
        for suffix, signature in zip(("", "-wal", "-journal"), before.signatures, strict=False):
            try:
                directory, name = root.parent(path + suffix)
                now: Signature | None = Signature.of(os.stat(name, dir_fd=directory, follow_symlinks=False))
            except OSError:
                now = None
            if suffix and now is not None:
                now = _side(now)
            if now != signature:
                return True
    return False


def _unchanged(before: Known, signatures: tuple[Signature | None, ...]) -> bool:
    return before.signatures == signatures


def _is_side_file(path: str, names: Mapping[str, Found], known: Mapping[str, Known]) -> bool:
    owner = owner_of_side_file(path)
    return owner is not None and owner in names and owner in known and FLAG_DATABASE in known[owner].entry.flags


def _next_data(fd: int, offset: int, size: int) -> int:
    """Where the first byte that is not in a hole lies, from `offset` on."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset


def _same_content(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


def _same_database(before: Entry, now: Entry) -> bool:
    """A database whose pages are the same is the same, though folding the log into it touches the file."""
    return (
        FLAG_DATABASE in now.flags
        and (before.mode, before.flags) == (now.mode, now.flags)
        and before.blobs == now.blobs
    )
