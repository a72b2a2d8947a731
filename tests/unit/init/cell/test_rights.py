from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.init.cell.rights import Rights

AGENT = (54321, 54322)


@pytest.fixture(autouse=True)
def a_way_to_the_place(tmp_path: Path) -> None:
    """pytest closes its directories to everybody else."""
    for place in (tmp_path, *tmp_path.parents):
        if place.parent in (place, Path("/")):
            return
        if place.stat().st_uid == os.geteuid():
            place.chmod(place.stat().st_mode | 0o711)


def test_without_ids_nothing_changes(tmp_path: Path) -> None:
    with Rights().taken():
        (tmp_path / "file").write_text("x")


@pytest.mark.root
def test_inside_files_are_the_agents_and_outside_they_are_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with Rights(AGENT).taken():
        (tmp_path / "in").write_text("x")
    (tmp_path / "out").write_text("x")
    assert ((tmp_path / "in").stat().st_uid, (tmp_path / "in").stat().st_gid) == AGENT
    assert (tmp_path / "out").stat().st_uid == 0


@pytest.mark.root
def test_inside_roots_files_cannot_be_read_written_or_linked_to(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    (tmp_path / "link").symlink_to(secret)
    with Rights(AGENT).taken():
        for path in (secret, tmp_path / "link"):
            with pytest.raises(PermissionError):
                path.read_text()
        with pytest.raises(PermissionError):
            os.chown(secret, *AGENT)
        with pytest.raises(PermissionError):
            (tmp_path / "new").write_text("x")
    assert secret.read_text() == "x"


@pytest.mark.root
def test_other_threads_keep_their_own_rights(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Rights(AGENT).taken():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert inside.wait(10)
        assert secret.read_text() == "x"
    finally:
        done.set()
        thread.join()


@pytest.mark.root
def test_an_error_inside_gives_the_rights_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), Rights(AGENT).taken():
        raise ValueError("x")
    (tmp_path / "file").write_text("x")
    assert (tmp_path / "file").stat().st_uid == 0


@pytest.mark.root
def test_a_pool_works_with_them_from_its_first_thread_to_its_last(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    def write(number: int) -> int:
        path = tmp_path / str(number)
        path.write_text("x")
        return path.stat().st_uid

    with ThreadPoolExecutor(3, initializer=Rights(AGENT).take) as pool:
        assert set(pool.map(write, range(20))) == {54321}
