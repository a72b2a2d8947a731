"""Manifests, packs and HEAD that were made to harm: each is refused with an error of its own, or restored harmlessly;
nothing outside of the root is touched."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.errors import DiskError, MoltinitError, RepositoryError, UnsupportedFormat
from supervisor.snapshot import format as fmt
from supervisor.snapshot import zstd
from supervisor.snapshot.pack import digest
from supervisor.snapshot.restore import RestoreFailed
from supervisor.store.memory import MemoryStore
from tests.support.engine import Life, memory_store

CONTENT = b"something harmless " * 20
Document = dict[str, Any]


class Forger:
    """A repository with one snapshot, all of it as the bucket's owner likes it."""

    def __init__(self, place: Path) -> None:
        self.store: MemoryStore = memory_store()
        self.place = place
        self.frame = zstd.compress(CONTENT)
        self.pack = self.frame
        self.head: Document = {
            "format": 1,
            "repository": "repo",
            "sequence": 1,
            "epoch": 1,
            "write_id": "w",
            "state": "released",
            "writer": {"boot": "b", "home": "h"},
            "snapshots": [{"sequence": 1, "epoch": 1, "manifest": "manifests/1"}],
        }
        self.manifest: Document = {
            "format": 1,
            "repository": "repo",
            "sequence": 1,
            "epoch": 1,
            "packs": [["packpack", len(self.frame)]],
            "frames": [[0, 0, len(self.frame), len(CONTENT)]],
            "blobs": [[digest(CONTENT).hex(), 0, 0, len(CONTENT)]],
            "entries": [["file", "f", 0o600, 0, [0]]],
        }
        self.raw_manifest: bytes | None = None

    @property
    def entries(self) -> list[list[Any]]:
        entries: list[list[Any]] = self.manifest["entries"]
        return entries

    async def restore(self) -> Path:
        """What a life makes of it."""
        outside = self.place / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        await self.store.put("HEAD", msgspec.json.encode(self.head))
        manifest = self.raw_manifest or zstd.compress(msgspec.json.encode(self.manifest))
        await self.store.put("manifests/1", manifest)
        await self.store.put(fmt.pack_key("packpack"), self.pack)
        life = Life(self.store, self.place)
        try:
            await life.boot()
        finally:
            life.engine.close()
            assert sorted(os.listdir(self.place)) == ["disk", "home", "outside"] or not life.root.exists()
            assert os.listdir(outside) == ["secret"]
            assert (outside / "secret").read_bytes() == b"secret"
        return life.root


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    return Forger(tmp_path)


async def test_the_forgers_own_repository_is_restored_while_it_is_honest(forger: Forger) -> None:
    assert ((await forger.restore()) / "file").read_bytes() == CONTENT


PATHS = ["/etc/x", "../x", "a/../../x", "", ".", "a//b", "./a", "a/.", "a\0b", "x" * 5000, "..", "a/.."]


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_leads_out_of_the_root_is_refused(forger: Forger, path: str) -> None:
    forger.entries[0][0] = path
    with pytest.raises(RepositoryError):
        await forger.restore()


@pytest.mark.parametrize("link", ["/etc/passwd", "../outside/secret", "nothing", "file2"])
async def test_a_hard_link_to_what_is_not_in_the_tree_is_refused(forger: Forger, link: str) -> None:
    forger.entries.append(["file2", "h", 0o600, 0, [], link])
    with pytest.raises(RepositoryError):
        await forger.restore()


async def test_hard_links_in_a_circle_are_refused(forger: Forger) -> None:
    forger.entries.extend([["a", "h", 0o600, 0, [], "b"], ["b", "h", 0o600, 0, [], "a"]])
    with pytest.raises(RepositoryError):
        await forger.restore()


@pytest.mark.parametrize("kind", ["l", "f", "h"])
async def test_nothing_lies_below_what_is_no_directory(forger: Forger, kind: str) -> None:
    link = {"l": "../outside", "h": "file", "f": ""}[kind]
    forger.entries.extend([["way", kind, 0o777, 0, [], link], ["way/secret", "f", 0o600, 0, [0]]])
    with pytest.raises(RepositoryError):
        await forger.restore()


async def test_a_link_that_lies_in_the_old_tree_is_not_followed(forger: Forger) -> None:
    home = forger.place / "home"
    home.mkdir()
    (home / "way").symlink_to("../outside")
    forger.entries.extend([["way", "d", 0o700, 0], ["way/secret", "f", 0o600, 0, [0]]])
    root = await forger.restore()
    assert not (root / "way").is_symlink()
    assert (root / "way/secret").read_bytes() == CONTENT


async def test_a_name_that_comes_twice_is_restored_once(forger: Forger) -> None:
    forger.entries.extend([["file", "l", 0o777, 0, [], "../outside/secret"], ["file", "f", 0o600, 0, [0]]])
    assert ((await forger.restore()) / "file").read_bytes() == CONTENT


async def test_privileges_are_not_planted(forger: Forger) -> None:
    forger.entries[0][2] = 0o106755
    assert ((await forger.restore()) / "file").stat().st_mode & 0o7777 == 0o755


def numbers(table: str, row: list[Any]) -> Callable[[Forger], None]:
    """Replace a table by one row."""

    def forge(forger: Forger) -> None:
        forger.manifest[table] = [row]

    return forge


HASH = digest(CONTENT).hex()
FORGERIES: dict[str, Callable[[Forger], None]] = {
    "frame behind the pack's end": numbers("frames", [0, 10**6, 10, 10]),
    "negative offset": numbers("frames", [0, -1, 10, 10]),
    "frame without bytes": numbers("frames", [0, 0, 0, 10]),
    "frame of exabytes": numbers("frames", [0, 0, 10, 1 << 60]),
    "frame in no pack": numbers("frames", [7, 0, 10, 10]),
    "frame in pack -1": numbers("frames", [-1, 0, 10, 10]),
    "blob behind the frame's end": numbers("blobs", [HASH, 0, 5, len(CONTENT)]),
    "blob with a negative offset": numbers("blobs", [HASH, 0, -5, 5]),
    "blob in no frame": numbers("blobs", [HASH, 9, 0, 5]),
    "hash that is none": numbers("blobs", ["zz", 0, 0, 5]),
    "hash that is short": numbers("blobs", ["00", 0, 0, 5]),
    "wrong hash": numbers("blobs", ["00" * 16, 0, 0, len(CONTENT)]),
    "pack with a path for a name": numbers("packs", ["../../HEAD", 10**6]),
    "number too large for a file": numbers("entries", ["file", "f", 0o600, 1 << 100, [0]]),
    "no such blob": numbers("entries", ["file", "f", 0o600, 0, [5]]),
    "blob -1": numbers("entries", ["file", "f", 0o600, 0, [-1]]),
    "kind that is unknown": numbers("entries", ["file", "x", 0o600, 0]),
    "directory with content": numbers("entries", ["file", "d", 0o700, 0, [0]]),
    "link to nothing": numbers("entries", ["file", "l", 0o777, 0, [], ""]),
    "link with a null byte": numbers("entries", ["file", "l", 0o777, 0, [], "a\0b"]),
    "row that is too short": numbers("entries", ["file"]),
    "base that is itself": lambda forger: forger.head["snapshots"][0].update(base="manifests/1"),
    "difference without a base": lambda forger: forger.manifest.update(base="manifests/0"),
    "another repository's": lambda forger: forger.manifest.update(repository="other"),
    "another snapshot's": lambda forger: forger.manifest.update(sequence=9),
    "newer format": lambda forger: forger.manifest.update(format=2),
    "format 0": lambda forger: forger.manifest.update(format=0),
    "format that is a text": lambda forger: forger.manifest.update(format="1"),
    "encrypted": lambda forger: forger.manifest.update(encryption={"alg": "x"}),
    "no JSON": lambda forger: setattr(forger, "raw_manifest", zstd.compress(b'{"format": 1, ')),
    "JSON without end": lambda forger: setattr(forger, "raw_manifest", zstd.compress(b"[" * 100_000)),
    "no zstd": lambda forger: setattr(forger, "raw_manifest", b"not zstd at all"),
    "cut short": lambda forger: setattr(forger, "raw_manifest", zstd.compress(b"x" * 1000)[:-10]),
    "damaged pack": lambda forger: setattr(forger, "pack", bytes([forger.frame[0] ^ 1]) + forger.frame[1:]),
    "two frames in one": lambda forger: setattr(forger, "pack", forger.frame[:-8] + forger.frame[:8]),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_is_refused(forger: Forger, name: str) -> None:
    FORGERIES[name](forger)
    with pytest.raises((RepositoryError, RestoreFailed)):
        await forger.restore()


async def test_frames_that_overlap_are_refused(forger: Forger) -> None:
    size = len(forger.frame)
    forger.manifest["frames"] = [[0, 0, size, len(CONTENT)], [0, 4, size - 4, len(CONTENT)]]
    forger.manifest["blobs"].append([HASH, 1, 0, len(CONTENT)])
    forger.entries.append(["other", "f", 0o600, 0, [1]])
    with pytest.raises(RepositoryError, match="overlap"):
        await forger.restore()


async def test_a_bomb_in_a_frame_is_stopped_at_what_it_declares(forger: Forger) -> None:
    bomb = zstd.compress(bytes(256 << 20))
    forger.pack = bomb
    forger.manifest["packs"] = [["packpack", len(bomb)]]
    forger.manifest["frames"] = [[0, 0, len(bomb), len(CONTENT)]]
    tracemalloc.start()
    try:
        with pytest.raises(RepositoryError, match="unpacks to more"):
            await forger.restore()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


async def test_a_tree_larger_than_the_disk_is_refused_before_anything_is_fetched(forger: Forger) -> None:
    forger.entries[0][4] = [0] * 200_000
    forger.manifest["blobs"] = [[HASH, 0, 0, len(CONTENT)]]
    forger.manifest["entries"] = [[f"f{n}", "f", 0o600, 0, [0] * 200_000] for n in range(20)]
    forger.manifest["frames"] = [[0, 0, len(forger.frame), 64 << 20]]
    forger.manifest["blobs"] = [[HASH, 0, 0, 64 << 20]]
    with pytest.raises((RestoreFailed, DiskError), match="free"):
        await forger.restore()


async def test_a_head_of_a_newer_format_is_refused_and_left_alone(forger: Forger) -> None:
    forger.head["format"] = 99
    with pytest.raises(UnsupportedFormat, match="99"):
        await forger.restore()
    assert msgspec.json.decode((await forger.store.get("HEAD")).data)["format"] == 99


@pytest.mark.parametrize("head", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"format":1}', b" " * (5 << 20)])
async def test_a_head_that_is_none_is_refused_and_left_alone(forger: Forger, head: bytes) -> None:
    await forger.store.put("HEAD", head)
    life = Life(forger.store, forger.place)
    with pytest.raises(MoltinitError):
        await life.boot()
    assert (await forger.store.get("HEAD")).data == head
