"""Moving in from a bucket that another program filled file by file."""

from __future__ import annotations

from pathlib import Path

from agent_runtime.contract import ImportedTree
from tests.support.engine import Life, memory_store

MOLTWORKER = (
    ImportedTree("openclaw/", ".openclaw"),
    ImportedTree("clawdbot/", ".openclaw"),
    ImportedTree("workspace/", ".openclaw/workspace"),
)


async def test_each_part_of_the_layout_lands_in_its_place_and_stays_in_the_bucket(tmp_path: Path) -> None:
    store = memory_store()
    await store.put("openclaw/openclaw.json", b"{}")
    await store.put("workspace/notes/a.md", b"hello")
    life = Life(store, tmp_path, imports=MOLTWORKER)
    back = await life.boot()
    assert back.origin == "imported"
    assert back.imported is not None
    assert back.imported.files == 2
    assert (life.root / ".openclaw/openclaw.json").read_bytes() == b"{}"
    assert (life.root / ".openclaw/workspace/notes/a.md").read_bytes() == b"hello"
    await life.engine.take("change")
    life.engine.close()
    assert (await store.get("workspace/notes/a.md")).data == b"hello"


async def test_of_two_layouts_for_the_same_place_the_newer_is_taken(tmp_path: Path) -> None:
    store = memory_store()
    await store.put("openclaw/openclaw.json", b"new")
    await store.put("clawdbot/clawdbot.json", b"old")
    life = Life(store, tmp_path, imports=MOLTWORKER)
    await life.boot()
    life.engine.close()
    assert [path.name for path in (life.root / ".openclaw").iterdir()] == ["openclaw.json"]


async def test_a_layout_is_not_imported_twice(tmp_path: Path) -> None:
    store = memory_store()
    await store.put("openclaw/openclaw.json", b"then")
    first = Life(store, tmp_path / "a", imports=MOLTWORKER)
    await first.boot()
    (first.root / ".openclaw/openclaw.json").write_bytes(b"now")
    await first.engine.take("change")
    first.engine.close()
    second = Life(store, tmp_path / "b", imports=MOLTWORKER)
    assert (await second.boot()).origin == "restored"
    second.engine.close()
    assert (second.root / ".openclaw/openclaw.json").read_bytes() == b"now"


async def test_names_that_no_file_can_have_are_refused_and_told(tmp_path: Path) -> None:
    store = memory_store()
    await store.put("openclaw/a", b"file")
    await store.put("openclaw/a/b", b"below a file")
    await store.put("openclaw/" + "n" * 255, b"long")
    life = Life(store, tmp_path, imports=MOLTWORKER)
    back = await life.boot()
    life.engine.close()
    assert back.imported is not None
    assert len(back.imported.refused) == 1
    assert (life.root / ".openclaw" / ("n" * 255)).read_bytes() == b"long"


async def test_an_import_that_was_interrupted_begins_anew(tmp_path: Path) -> None:
    store = memory_store()
    await store.put("openclaw/one", b"1")
    life = Life(store, tmp_path, imports=MOLTWORKER)
    await life.engine.claim()
    (life.root / ".openclaw").mkdir(parents=True)
    (life.root / ".openclaw/one").write_bytes(b"half")
    assert (await life.engine.bring_back()).origin == "imported"
    life.engine.close()
    assert (life.root / ".openclaw/one").read_bytes() == b"1"
