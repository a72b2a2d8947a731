"""Files and folders out of a snapshot, read back by two readers of tar archives."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from supervisor.errors import NotFound, RepositoryError, UsageError
from supervisor.snapshot.download import Opened
from supervisor.store.memory import MemoryStore
from tests.support.engine import Life, memory_store, picture


def furnish(root: Path) -> None:
    """A tree with all that a tree may hold."""
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o750)
    (root / "deep" / "a.txt").write_bytes(b"alpha")
    os.chmod(root / "deep" / "a.txt", 0o640)
    (root / "deep" / "nothing").write_bytes(b"")
    (root / "zlarge").write_bytes(os.urandom(3_000_000))
    os.link(root / "zlarge", root / "deep" / "er" / "linked")
    os.symlink("../deep/a.txt", root / "deep" / "pointer")
    os.symlink("/nowhere/at all", root / "dangling")
    (root / ("long" * 60)).write_bytes(b"long name")
    (root / "ünï \n odd").write_bytes(b"odd")
    with open(os.fsencode(root) + b"/\xff\xfe", "wb") as raw:
        raw.write(b"raw name")
    for path, times in (("deep/a.txt", 1_234_567_890_123_456_789), ("zlarge", -1_500_000_000), ("dangling", 5)):
        os.utime(root / path, ns=(times, times), follow_symlinks=False)
    for directory in ("deep/er", "deep", "empty"):
        os.utime(root / directory, ns=(10**18 + 7, 10**18 + 7))


async def taken(store: MemoryStore, place: Path) -> Life:
    life = Life(store, place)
    await life.boot()
    furnish(life.root)
    await life.engine.take("test")
    return life


async def read(opened: Opened) -> bytes:
    return b"".join([chunk async for chunk in opened.chunks])


def reader(data: bytes) -> tarfile.TarFile:
    return tarfile.TarFile(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape")


async def test_a_tree_comes_out_of_its_archive_as_it_was(tmp_path: Path) -> None:
    life = await taken(memory_store(), tmp_path)
    data = await read(await life.engine.open_tar(1))
    assert len(data) % tarfile.RECORDSIZE == 0
    assert reader(data).getnames()
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "xpf", "-", "-C", str(out)], input=data, check=True, capture_output=True)
    before, after = picture(life.root), picture(out)
    assert before.keys() == after.keys()
    for name, there in before.items():
        assert after[name] == there, name
    life.engine.close()


async def test_pythons_reader_sees_odd_names_and_times_to_the_nanosecond(tmp_path: Path) -> None:
    life = await taken(memory_store(), tmp_path)
    archive = reader(await read(await life.engine.open_tar(1)))
    assert {"ünï \n odd", "\udcff\udcfe", "long" * 60} <= set(archive.getnames())
    assert archive.getmember("deep/a.txt").pax_headers["mtime"] == "1234567890.123456789"
    assert archive.getmember("zlarge").pax_headers["mtime"] == "-1.500000000"
    large, link = archive.getmember("deep/er/linked"), archive.getmember("zlarge")
    assert (large.type, link.type, link.linkname) == (tarfile.REGTYPE, tarfile.LNKTYPE, "deep/er/linked")
    life.engine.close()


async def test_a_folder_is_taken_alone_and_its_links_to_the_outside_are_whole(tmp_path: Path) -> None:
    life = await taken(memory_store(), tmp_path)
    opened = await life.engine.open_tar(1, "deep/er/")
    assert opened.name == "snapshot-1-er.tar"
    archive = reader(await read(opened))
    assert archive.getnames() == ["deep/er", "deep/er/linked"]
    linked = archive.extractfile("deep/er/linked")
    assert linked is not None
    assert linked.read() == (life.root / "zlarge").read_bytes()
    with pytest.raises(NotFound, match="nowhere"):
        await life.engine.open_tar(1, "nowhere")
    life.engine.close()


async def test_set_user_id_bits_are_left_out_of_an_archive(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    (life.root / "tool").write_bytes(b"x")
    os.chmod(life.root / "tool", 0o6755)
    await life.engine.take("test")
    archive = reader(await read(await life.engine.open_tar(1)))
    assert archive.getmember("tool").mode == 0o755
    life.engine.close()


async def test_one_file_is_read_whole_also_through_a_hard_link(tmp_path: Path) -> None:
    life = await taken(memory_store(), tmp_path)
    opened = await life.engine.open_file(1, "/deep/er/linked")
    assert (opened.name, opened.size, opened.modified) == ("linked", 3_000_000, -1.5)
    assert await read(opened) == (life.root / "zlarge").read_bytes()
    assert await read(await life.engine.open_file(1, "\udcff\udcfe")) == b"raw name"
    assert await read(await life.engine.open_file(1, "\\xff\\xfe")) == b"raw name", "as `diff` shows the name"
    assert await read(await life.engine.open_file(1, "deep/nothing")) == b""
    for path in ("deep", "dangling"):
        with pytest.raises(UsageError, match="is no file"):
            await life.engine.open_file(1, path)
    for path in ("", "deep/../zlarge", "nowhere"):
        with pytest.raises(NotFound):
            await life.engine.open_file(1, path)
    with pytest.raises(NotFound, match="no snapshot 9"):
        await life.engine.open_file(9, "zlarge")
    life.engine.close()


async def test_requests_are_few_and_content_is_not_fetched_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory_store()
    life = Life(store, tmp_path)
    await life.boot()
    (life.root / "many").mkdir(parents=True)
    for number in range(500):
        (life.root / "many" / f"{number:03d}").write_bytes(os.urandom(4000))
    await life.engine.take("test")
    fetched: list[int] = []
    plain = store.get_range

    async def counted(key: str, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return await plain(key, start, end)

    monkeypatch.setattr(store, "get_range", counted)
    data = await read(await life.engine.open_tar(1))
    assert len(reader(data).getnames()) == 501
    assert len(fetched) <= 2
    assert sum(fetched) < 2_200_000
    life.engine.close()


@pytest.mark.parametrize("times", [1, 1000])
async def test_damage_on_the_way_is_fetched_again_and_damage_that_stays_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    store = memory_store()
    life = await taken(store, tmp_path)
    plain = store.get_range
    damaged = 0

    async def damaging(key: str, start: int, end: int) -> bytes:
        nonlocal damaged
        data = bytearray(await plain(key, start, end))
        if damaged < times:
            damaged += 1
            data[len(data) // 2] ^= 1
        return bytes(data)

    monkeypatch.setattr(store, "get_range", damaging)
    opened = await life.engine.open_file(1, "zlarge")
    if times == 1:
        assert await read(opened) == (life.root / "zlarge").read_bytes()
    else:
        with pytest.raises(RepositoryError):
            await read(opened)
    life.engine.close()
