"""Hostile repositories, continued: escapes, names that no disk takes, numbers that no machine holds, objects that no
memory holds, bases that lead in circles, old trees laid as traps. `test_hostile_repository.py` has the plain ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from supervisor.clock import SystemClock
from supervisor.errors import MoltinitError, RepositoryError, UnsupportedFormat
from supervisor.snapshot import format as fmt
from supervisor.snapshot import zstd
from supervisor.store.file import FileStore
from supervisor.store.protocol import Store
from supervisor.store.retry import RetryingStore, RetryPolicy
from tests.fault.test_hostile_repository import CONTENT, HASH, Document, Forger
from tests.support.engine import Life

MEMORY_BYTES = 200 << 20


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    return Forger(tmp_path)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Nothing inside may hold more than `MEMORY_BYTES` at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES, f"{peak >> 20} MiB"


def sparse(path: Path, size: int, begins: bytes = b"") -> None:
    """An object of that size which takes no disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(begins)
        file.truncate(size)


async def fill(store: Store, forger: Forger, **more: Document) -> None:
    """The forger's objects in another store; `more` are further manifests by the last part of their keys."""
    await store.put("HEAD", msgspec.json.encode(forger.head))
    await store.put("manifests/1", forger.raw_manifest or zstd.compress(msgspec.json.encode(forger.manifest)))
    for key, document in more.items():
        await store.put(f"manifests/{key}", zstd.compress(msgspec.json.encode(document)))
    await store.put(fmt.pack_key("packpack"), forger.pack)


def sound_manifest(forger: Forger, sequence: int) -> Document:
    """A harmless one."""
    return {**forger.manifest, "sequence": sequence, "entries": [["file", "f", 0o600, 0, [0]]]}


async def boot(store: Store, place: Path) -> Life:
    """A life on it, let go of at once."""
    life = Life(store, place)
    try:
        await life.boot()
    finally:
        life.engine.close()
    return life


# -- names

ESCAPED = [
    r"\x2e\x2e/outside/new",
    r"\x2e\x2e\x2foutside\x2fnew",
    r"\x2f\x2fetc",
    r"\x2fetc\x2fx",
    r"a\x00b",
    r"a\x2f",
    r"\x2e",
    r"a\x2f\x2e\x2e\x2f\x2e\x2e\x2fx",
]


@pytest.mark.parametrize("path", ESCAPED)
async def test_an_escaped_path_that_leads_out_of_the_root_is_refused(forger: Forger, path: str) -> None:
    forger.entries.append([path, "f", 0o600, 0, [0]])
    with pytest.raises(RepositoryError):
        await forger.restore()


@pytest.mark.parametrize("link", [r"\x2e\x2e/outside/secret", r"\x2fetc/passwd", r"a\x00b", "\\x2e\\x2e"])
async def test_an_escaped_hard_link_that_leads_out_of_the_root_is_refused(forger: Forger, link: str) -> None:
    forger.entries.append(["new", "h", 0o600, 0, [], link])
    with pytest.raises(RepositoryError):
        await forger.restore()


@pytest.mark.parametrize("path", [r"\q", r"\x", r"\xGG", "\\", r"\\x2e\\x2e", "a\\\n"])
async def test_an_escape_that_means_nothing_is_a_name_like_others_or_refused(forger: Forger, path: str) -> None:
    forger.entries.append([path, "f", 0o600, 0, [0]])
    try:
        root = await forger.restore()
    except RepositoryError:
        return
    assert len(os.listdir(root)) == 2


TOO_LONG: dict[str, list[list[Any]]] = {
    "a part of 256 bytes": [["x" * 256, "f", 0o600, 0, [0]]],
    "a part of 255 characters in 510 bytes": [["é" * 255, "f", 0o600, 0, [0]]],
    "a directory of 256 bytes": [["x" * 256, "d", 0o700, 0]],
    "a link to 4096 bytes": [["link", "l", 0o777, 0, [], "x" * 4096]],
    "a link to 4095 characters in 8190 bytes": [["link", "l", 0o777, 0, [], "é" * 4095]],
}


@pytest.mark.parametrize("name", TOO_LONG)
async def test_a_name_that_no_disk_takes_is_refused_as_the_repositorys_fault(forger: Forger, name: str) -> None:
    forger.entries.extend(TOO_LONG[name])
    with pytest.raises(RepositoryError):
        await forger.restore()


async def test_a_tree_deeper_than_a_walk_goes_is_refused_or_restored(forger: Forger) -> None:
    forger.entries.extend([["/".join(["d"] * depth), "d", 0o700, 0] for depth in range(1, 2001)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # the usual limit
    try:
        root = await forger.restore()
    except RepositoryError:
        return
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        _remove_deep(forger.place / "home")
    assert (root / "file").read_bytes() == CONTENT


def _remove_deep(root: Path) -> None:
    while (root / "d/d").is_dir():
        os.rename(root / "d/d", root / "next")
        shutil.rmtree(root / "d")
        os.rename(root / "next", root / "d")


@pytest.mark.parametrize(
    ("kind", "number"),
    [pytest.param(kind, number) for kind in "fdlh" for number in range(3)],
)
async def test_a_name_of_the_restores_own_is_a_name_like_others(forger: Forger, number: int, kind: str) -> None:
    name = f".moltinit-{number}~"
    row: list[Any] = [name, kind, 0o700, 0]
    content: dict[str, list[Any]] = {"f": [[0]], "d": [], "l": [[], "../outside/secret"], "h": [[], "zz"]}
    row += content[kind]
    forger.entries.extend([row, ["aa", "f", 0o600, 0, [0]], ["zz", "f", 0o600, 0, [0]]])
    root = await forger.restore()
    assert sorted(os.listdir(root)) == sorted([name, "aa", "file", "zz"])
    assert {(root / known).read_bytes() for known in ("aa", "file", "zz")} == {CONTENT}
    if kind == "d":
        assert (root / name).is_dir()
    elif kind == "l":
        assert os.readlink(root / name) == "../outside/secret"
    else:
        assert (root / name).read_bytes() == CONTENT


async def test_a_directory_that_becomes_a_link_in_a_later_row_is_refused(forger: Forger) -> None:
    forger.entries.extend(
        [["way", "d", 0o700, 0], ["way/secret", "f", 0o600, 0, [0]], ["way", "l", 0o777, 0, [], "../outside"]]
    )
    with pytest.raises(RepositoryError):
        await forger.restore()


async def test_the_same_name_in_two_spellings_is_restored_once(forger: Forger) -> None:
    forger.entries.extend([[r"f\x69le", "l", 0o777, 0, [], "../outside/secret"], [r"\x66ile", "f", 0o600, 0, [0]]])
    root = await forger.restore()
    assert os.listdir(root) == ["file"]
    assert (root / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("mode", [-1, 0o7777, 1 << 70, -(1 << 70)])
@pytest.mark.parametrize("kind", ["f", "d"])
async def test_no_mode_plants_privileges(forger: Forger, kind: str, mode: int) -> None:
    forger.entries.append(["new", kind, mode, 0])
    root = await forger.restore()
    assert (root / "new").stat().st_mode & 0o6000 == 0


@pytest.mark.parametrize("mtime", [-(1 << 63), 1 << 63, (1 << 63) - 1])
async def test_the_first_and_the_last_time_there_is_are_restored_or_refused(forger: Forger, mtime: int) -> None:
    forger.entries.append(["new", "f", 0o600, mtime, [0]])
    try:
        root = await forger.restore()
    except RepositoryError:
        return
    assert (root / "new").read_bytes() == CONTENT


# -- traps in the old tree


def trap_link(root: Path, outside: Path) -> None:
    (root / "file").symlink_to(outside / "secret")


def trap_dangling(root: Path, outside: Path) -> None:
    (root / "file").symlink_to(outside / "new")


def trap_fifo(root: Path, outside: Path) -> None:
    os.mkfifo(root / "file")


def trap_directory(root: Path, outside: Path) -> None:
    (root / "file/inner").mkdir(parents=True)
    (root / "file/inner/link").symlink_to(outside)
    (root / "file/link").symlink_to(outside / "secret")


def trap_hard_link(root: Path, outside: Path) -> None:
    os.link(outside / "secret", root / "file")


def trap_temporary(root: Path, outside: Path) -> None:
    (root / ".moltinit-0~").symlink_to(outside / "secret")
    (root / "way").symlink_to(outside)


def trap_temporary_directory(root: Path, outside: Path) -> None:
    (root / ".moltinit-0~").mkdir()
    (root / ".moltinit-0~/link").symlink_to(outside)


@pytest.mark.parametrize(
    ("trap", "skip"),
    [
        (trap_link, ()),
        (trap_dangling, ()),
        (trap_fifo, ()),
        (trap_directory, ()),
        (trap_hard_link, ()),
        (trap_temporary, ()),
        (trap_temporary, (".moltinit-*",)),
        (trap_temporary_directory, ()),
    ],
)
async def test_an_old_tree_that_is_a_trap_is_replaced_and_nothing_outside_is_touched(
    forger: Forger, trap: Any, skip: tuple[str, ...]
) -> None:
    outside = forger.place / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = forger.place / "home"
    root.mkdir()
    trap(root, outside)
    forger.entries.extend([["way", "d", 0o700, 0], ["way/secret", "f", 0o600, 0, [0]]])
    await fill(forger.store, forger)
    life = Life(forger.store, forger.place, skip=skip)
    try:
        async with asyncio.timeout(10):
            await life.boot()
    finally:
        life.engine.close()
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert (root / "file").read_bytes() == CONTENT
    assert not (root / "way").is_symlink()
    assert (root / "way/secret").read_bytes() == CONTENT


# -- numbers

FAR = 10**400


@pytest.mark.parametrize(
    ("packs", "frames"),
    [
        ([["packpack", 1 << 60]], [[0, 0, 1 << 60, len(CONTENT)]]),
        ([["packpack", 1 << 60]], [[0, 1 << 59, 1 << 59, len(CONTENT)]]),
        ([["packpack", FAR]], [[0, 0, FAR, len(CONTENT)]]),
        ([["packpack", FAR]], [[0, FAR - 9, 9, len(CONTENT)]]),
        ([["packpack", -1]], [[0, 0, 10, len(CONTENT)]]),
        ([["packpack", 10]], [[0, 0, FAR, len(CONTENT)]]),
        ([["packpack", 10]], [[0, -FAR, FAR, len(CONTENT)]]),
        ([["packpack", 500]], [[0, 0, 500, FAR]]),
    ],
    ids=["exabyte", "exabyte-behind", "far", "far-behind", "negative", "far-stored", "far-before", "far-raw"],
)
@pytest.mark.parametrize("kind", ["memory", "file", "retrying"])
async def test_a_place_that_no_pack_has_is_refused_whatever_the_bucket(
    forger: Forger,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: str,
    packs: list[Any],
    frames: list[Any],
) -> None:
    store: Store = FileStore(tmp_path / "bucket") if kind == "file" else forger.store
    if kind == "retrying":
        store = RetryingStore(forger.store, SystemClock(), Random(1), RetryPolicy(deadline=1.0))
    forger.manifest.update(packs=packs, frames=frames)
    await fill(store, forger)
    async with asyncio.timeout(10):
        with pytest.raises(RepositoryError):
            await boot(store, tmp_path)
    await store.close()


HEADS: dict[str, Document] = {
    "epoch of exabytes": {"epoch": 1 << 64},
    "epoch beyond": {"epoch": FAR},
    "negative epoch": {"epoch": -5},
    "sequence beyond": {"sequence": FAR},
    "negative sequence": {"sequence": -5},
    "collected in the far future": {"collected_at": 1e300},
    "updated before time": {"updated_at": -1e300},
    "a long id": {"repository": "r" * 100_000},
}
RECORDS: dict[str, Document] = {
    "taken in the far future": {"taken_at": 1e300},
    "taken before time": {"taken_at": -1e300},
    "committed in the far future": {"committed_at": 1e300},
    "negative sizes": {"files": -5, "bytes": -5, "torn": -5},
    "sizes beyond": {"files": FAR, "bytes": FAR},
    "sequence beyond its head's": {"sequence": FAR},
    "a note of a megabyte": {"note": "n" * (1 << 20)},
}


async def _boot_and_save(forger: Forger) -> None:
    life = Life(forger.store, forger.place)
    try:
        await life.boot()
        assert (life.root / "file").read_bytes() == CONTENT
        (life.root / "new").write_bytes(b"new")
        taken = await life.engine.take("change")
        assert taken.record is not None
        await life.engine.release()
    finally:
        life.engine.close()
    again = await boot(forger.store, forger.place / "again")
    assert (again.root / "new").read_bytes() == b"new"


async def _refused_or_carried_on(forger: Forger) -> None:
    await fill(forger.store, forger)
    failed: MoltinitError | None = None
    try:
        await _boot_and_save(forger)
    except MoltinitError as error:
        failed = error
    assert failed is None or isinstance(failed, RepositoryError), failed


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_with_absurd_numbers_is_refused_or_carried_on(forger: Forger, name: str) -> None:
    forger.head.update(HEADS[name])
    forger.manifest["repository"] = forger.head["repository"]
    await _refused_or_carried_on(forger)


@pytest.mark.parametrize("name", RECORDS)
async def test_a_record_with_absurd_numbers_is_refused_or_carried_on(forger: Forger, name: str) -> None:
    forger.head["snapshots"][0].update(RECORDS[name])
    forger.manifest["sequence"] = forger.head["snapshots"][0]["sequence"]
    await _refused_or_carried_on(forger)


# -- keys

FORBIDDEN_KEYS = ["", "../x", "/etc/passwd", "manifests/../HEAD", "manifests//1", "a\nb", "x" * 2000, "."]
KEYS = ["HEAD", "packs", "nowhere"]


@pytest.mark.parametrize("key", [*KEYS, *(pytest.param(key, id=key[:20]) for key in FORBIDDEN_KEYS)])
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_manifest_under_a_forbidden_key_is_a_damaged_snapshot_and_the_one_before_is_restored(
    forger: Forger, tmp_path: Path, kind: str, key: str
) -> None:
    store: Store = FileStore(tmp_path / "bucket") if kind == "file" else forger.store
    forger.head["sequence"] = 2
    forger.head["snapshots"].append({"sequence": 2, "epoch": 1, "manifest": key})
    await fill(store, forger)
    life = Life(store, tmp_path)
    back = await life.boot()
    life.engine.close()
    await store.close()
    assert [sequence for sequence, _ in back.damaged] == [2]
    assert (life.root / "file").read_bytes() == CONTENT


# -- bases


def difference(forger: Forger, base: str, **changes: Any) -> Document:
    """A manifest that stands on another."""
    tables: Document = {"packs": [], "frames": [], "blobs": [], "entries": []}
    return {**forger.manifest, **tables, "base": base, **changes}


async def test_an_honest_difference_is_restored(forger: Forger) -> None:
    forger.head["snapshots"][0]["base"] = "manifests/base"
    base = sound_manifest(forger, 1)
    forger.manifest = difference(forger, "manifests/base", entries=[["new", "f", 0o600, 0, [0]]])
    await fill(forger.store, forger, base=base)
    life = await boot(forger.store, forger.place)
    assert sorted(os.listdir(life.root)) == ["file", "new"]


@pytest.mark.parametrize("name", ["cycle", "stack", "other repository", "newer", "not there", "HEAD", "no difference"])
async def test_a_base_that_is_none_is_refused(forger: Forger, name: str) -> None:
    base = sound_manifest(forger, 1)
    key = {"not there": "manifests/nowhere", "HEAD": "HEAD"}.get(name, "manifests/base")
    forger.head["snapshots"][0]["base"] = key
    forger.manifest = difference(forger, key)
    if name == "cycle":
        base = difference(forger, "manifests/1")
    elif name == "stack":
        base = difference(forger, "manifests/whole")
    elif name == "other repository":
        base["repository"] = "other"
    elif name == "newer":
        base["format"] = 2
    elif name == "no difference":
        forger.manifest = base
    await fill(forger.store, forger, base=base, whole=sound_manifest(forger, 1))
    with pytest.raises(RepositoryError):
        await boot(forger.store, forger.place)


@pytest.mark.parametrize(
    "changes",
    [
        {"removed": ["way"]},
        {"entries": [["way", "l", 0o777, 0, [], "../outside"]]},
        {"entries": [["way", "f", 0o600, 0, [0]]]},
        {"entries": [["way", "h", 0o600, 0, [], "file"]]},
        {"removed": ["file"], "entries": [["hard", "h", 0o600, 0, [], "file"]]},
        {"blobs": [[HASH, 1, 0, 5]]},
        {"entries": [["new", "f", 0o600, 0, [1]]]},
    ],
)
async def test_a_difference_that_breaks_its_base_is_refused(forger: Forger, changes: Document) -> None:
    base = sound_manifest(forger, 1)
    base["entries"] += [["way", "d", 0o700, 0], ["way/secret", "f", 0o600, 0, [0]]]
    forger.head["snapshots"][0]["base"] = "manifests/base"
    forger.manifest = difference(forger, "manifests/base", **changes)
    await fill(forger.store, forger, base=base)
    with pytest.raises(RepositoryError):
        await boot(forger.store, forger.place)


async def test_a_manifest_of_a_newer_format_is_refused_and_not_called_damaged(forger: Forger) -> None:
    forger.head["sequence"] = 2
    forger.head["snapshots"].append({"sequence": 2, "epoch": 1, "manifest": "manifests/newer"})
    await fill(forger.store, forger, newer={**sound_manifest(forger, 2), "format": 2})
    with contextlib.suppress(UnsupportedFormat):
        await boot(forger.store, forger.place)
    records = fmt.decode_head((await forger.store.get("HEAD")).data).snapshots
    assert [record.sequence for record in records if record.damaged] == []


# -- sizes


@pytest.mark.parametrize("place", ["HEAD", "manifests/1"])
async def test_an_enormous_object_is_refused_before_it_fills_the_memory(
    forger: Forger, tmp_path: Path, place: str
) -> None:
    store = FileStore(tmp_path / "bucket")
    await fill(store, forger)
    sparse(tmp_path / "bucket" / place, 300 << 20, b'{"format": 1')
    with bounded_memory(), pytest.raises(RepositoryError):
        await boot(store, tmp_path)
    await store.close()


async def test_an_enormous_frame_is_refused_before_it_fills_the_memory(forger: Forger, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "bucket")
    forger.manifest.update(packs=[["packpack", 300 << 20]], frames=[[0, 0, 300 << 20, len(CONTENT)]])
    await fill(store, forger)
    sparse(tmp_path / "bucket" / fmt.pack_key("packpack"), 300 << 20)
    with bounded_memory(), pytest.raises(RepositoryError):
        await boot(store, tmp_path)
    await store.close()


async def test_a_manifest_that_unpacks_without_end_is_refused_before_it_fills_the_memory(forger: Forger) -> None:
    forger.raw_manifest = zstd.compress(b" " * (400 << 20))
    with bounded_memory(), pytest.raises(RepositoryError):
        await forger.restore()


@pytest.mark.parametrize("inside", ["unknown", "entries", "snapshots"])
@pytest.mark.parametrize("place", ["HEAD", "manifests/1"])
async def test_json_that_is_deeper_than_any_stack_is_refused(forger: Forger, place: str, inside: str) -> None:
    deep = b"[" * 300_000 + b"]" * 300_000
    known = forger.head if place == "HEAD" else forger.manifest
    data = msgspec.json.encode(known)[:-1] + b',"' + inside.encode() + b'":' + deep + b"}"
    await fill(forger.store, forger)
    await forger.store.put(place, data if place == "HEAD" else zstd.compress(data))
    with pytest.raises(RepositoryError):
        await boot(forger.store, forger.place)


async def test_a_million_names_of_which_the_last_is_bad_are_refused_soon(forger: Forger) -> None:
    rows = b",".join(b'["f%d","f",384,0]' % number for number in range(1_000_000))
    head = msgspec.json.encode({**forger.manifest, "entries": []})
    forger.raw_manifest = zstd.compress(head.replace(b'"entries":[]', b'"entries":[' + rows + b',["../x","f",384,0]]'))
    began = time.monotonic()
    with pytest.raises(RepositoryError):
        await forger.restore()
    assert time.monotonic() - began < 20


async def test_a_million_rows_for_one_name_are_restored_as_one(forger: Forger) -> None:
    rows = b",".join([b'["file","f",384,0,[0]]'] * 1_000_000)
    head = msgspec.json.encode({**forger.manifest, "entries": []})
    forger.raw_manifest = zstd.compress(head.replace(b'"entries":[]', b'"entries":[' + rows + b"]"))
    began = time.monotonic()
    assert os.listdir(await forger.restore()) == ["file"]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("what", ["missing", "empty", "short", "long", "another"])
async def test_a_pack_that_is_not_what_its_manifest_says_is_refused_or_does_not_matter(
    forger: Forger, what: str
) -> None:
    await fill(forger.store, forger)
    key = fmt.pack_key("packpack")
    if what == "missing":
        await forger.store.delete([key])
    else:
        changed = {"empty": b"", "short": forger.pack[:-1], "long": forger.pack + b"more"}
        await forger.store.put(key, changed.get(what, zstd.compress(CONTENT[::-1])))
    if what == "long":
        assert ((await boot(forger.store, forger.place)).root / "file").read_bytes() == CONTENT
        return
    with pytest.raises(RepositoryError):
        await boot(forger.store, forger.place)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "device"])
@pytest.mark.parametrize("place", ["HEAD", "manifests/1"])
async def test_a_bucket_directory_whose_objects_are_no_files_does_not_hang(
    forger: Forger, tmp_path: Path, place: str, kind: str
) -> None:
    store = FileStore(tmp_path / "bucket")
    await fill(store, forger)
    path = tmp_path / "bucket" / place
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "/etc/hostname")
    async with asyncio.timeout(10):
        with pytest.raises(MoltinitError):
            await boot(store, tmp_path)
    await store.close()
