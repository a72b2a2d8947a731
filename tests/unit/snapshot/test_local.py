"""What a disk remembers: a marker counts under the kernel that wrote it, or once it is synced."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from supervisor.errors import UsageError
from supervisor.snapshot import local
from supervisor.snapshot.local import LocalDisk, Marker
from tests.support.engine import new_id

MARKER = Marker(repository="r", sequence=3)


def disk(place: Path) -> LocalDisk:
    return LocalDisk(place, new_id)


def synced() -> None:
    """Let the background work end."""
    for thread in threading.enumerate():
        if thread.name == "sync":
            thread.join(30)


def test_a_marker_counts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    monkeypatch.setattr(os, "sync", lambda: hold.wait(30))
    one = disk(tmp_path)
    one.mark(MARKER)
    found = disk(tmp_path).marker()
    assert found is not None
    assert (found.repository, found.sequence) == ("r", 3)
    hold.set()
    synced()


def test_before_it_is_synced_it_does_not_survive_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(os, "sync", lambda: hold.wait(30))
        one = disk(tmp_path)
        one.mark(MARKER)
        patch.setattr(local, "_kernel", lambda: "after a power cut")
        assert disk(tmp_path).marker() is None
        hold.set()
        synced()
        assert disk(tmp_path).marker() == MARKER  # now it would


def test_a_restore_that_begins_takes_the_marker_away_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    monkeypatch.setattr(os, "sync", lambda: hold.wait(30))
    one = disk(tmp_path)
    one.mark(MARKER)
    one.unmark()
    hold.set()
    synced()
    assert disk(tmp_path).marker() is None


def test_a_closed_disk_is_not_written_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    monkeypatch.setattr(os, "sync", lambda: hold.wait(30))
    one = disk(tmp_path)
    one.mark(MARKER)
    one.close()
    (tmp_path / "restored.json").unlink()
    hold.set()
    synced()
    assert not (tmp_path / "restored.json").exists()


def test_two_daemons_on_one_disk_are_one_too_many(tmp_path: Path) -> None:
    one, two = disk(tmp_path), disk(tmp_path)
    one.lock()
    with pytest.raises(UsageError, match=str(os.getpid())):
        two.lock()
    one.unlock()
    two.lock()
    two.unlock()
    assert one.id == two.id
