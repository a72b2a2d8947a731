"""A life as a state machine: any order of changes, snapshots, deaths, restores and collections, against a model."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.snapshot.collect import Collector
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.verify import verify
from tests.support.engine import Life, memory_store, picture
from tests.support.trees import add_rows, count_rows, make_database

NAMES = st.sampled_from(["a", "b", "d/c", "d/e", "bad-\udcff", "new\nline"])
Picture = dict[bytes, tuple[object, ...]]


class AgentLife(RuleBasedStateMachine):
    """`committed` is the model: what each snapshot must bring back."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.place = Path(tempfile.mkdtemp(prefix="moltinit-stateful-"))
        self.store = memory_store()
        self.committed: dict[int, tuple[Picture, int]] = {}
        self.disks = 0
        self.life = self._boot()

    def teardown(self) -> None:
        if hasattr(self, "life"):
            self.life.engine.close()
            self.loop.close()
            shutil.rmtree(self.place, ignore_errors=True)

    def _boot(self) -> Life:
        self.disks += 1
        life = Life(
            self.store, self.place / f"vm{self.disks}", retention=Retention(last=3, hourly=1, daily=1, weekly=1)
        )
        life.engine._collector = Collector(life.engine._repository, young=0.0)
        self.loop.run_until_complete(life.boot())
        return life

    @property
    def root(self) -> Path:
        return self.life.root

    def _seen(self) -> tuple[Picture, int]:
        """The tree, with the database by what it says and not by its bytes."""
        seen = {
            path: item[:2] if item[0] == "directory" else item
            for path, item in picture(self.root).items()
            if not path.startswith(b"state.db")
        }
        database = self.root / "state.db"
        return seen, count_rows(database) if database.exists() else -1

    @rule(name=NAMES, content=st.binary(max_size=2000), repeat=st.sampled_from([1, 400]))
    def write(self, name: str, content: bytes, repeat: int) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_symlink():
            path.write_bytes(content * repeat)

    @rule(name=NAMES, content=st.binary(min_size=1, max_size=2000))
    def append(self, name: str, content: bytes) -> None:
        path = self.root / name
        if path.is_file() and not path.is_symlink():
            with path.open("ab") as file:
                file.write(content)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        if os.path.lexists(self.root / old):
            (self.root / new).parent.mkdir(exist_ok=True)
            os.replace(self.root / old, self.root / new)

    @rule(name=NAMES, mode=st.sampled_from([0o600, 0o644, 0o755]))
    def chmod(self, name: str, mode: int) -> None:
        if (self.root / name).is_file() and not (self.root / name).is_symlink():
            (self.root / name).chmod(mode)

    @rule(name=NAMES, to=NAMES, hard=st.booleans())
    def link(self, name: str, to: str, hard: bool) -> None:
        path = self.root / name
        if os.path.lexists(path) or not (self.root / to).is_file() or (self.root / to).is_symlink():
            return
        path.parent.mkdir(exist_ok=True)
        if hard:
            path.hardlink_to(self.root / to)
        else:
            path.symlink_to(to)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if os.path.lexists(self.root / name):
            (self.root / name).unlink()

    @rule(rows=st.integers(1, 30), fold=st.booleans())
    def transact(self, rows: int, fold: bool) -> None:
        database = self.root / "state.db"
        if not database.exists():
            make_database(database, 0).close()
        connection = sqlite3.connect(database, isolation_level=None)
        add_rows(connection, rows)
        if fold:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    @rule(compact=st.booleans())
    def snapshot(self, compact: bool) -> None:
        taken = self.loop.run_until_complete(
            self.life.engine.take("change", accept_shrink=True, force=True, compact=compact)
        )
        assert taken.record is not None
        self.committed[taken.record.sequence] = self._seen()

    @precondition(lambda self: self.committed)
    @rule()
    def crash(self) -> None:
        """The VM is gone, and what was not committed with it."""
        self.life.engine.close()
        self.life = self._boot()
        assert self._seen() == self.committed[max(self.committed)]

    @precondition(lambda self: self.committed)
    @rule(back=st.integers(0, 4))
    def go_back(self, back: int) -> None:
        records = self.life.engine._held.head.snapshots
        wanted = records[max(0, len(records) - 1 - back)].sequence
        before = self._seen()
        record = self.loop.run_until_complete(self.life.engine.restore(wanted))
        assert self._seen() == self.committed[wanted]
        self.committed[record.sequence - 1] = before
        self.committed[record.sequence] = self.committed[wanted]

    @rule()
    def collect(self) -> None:
        if self.committed:
            self.loop.run_until_complete(self.life.engine.collect())

    @invariant()
    def every_retained_snapshot_is_whole(self) -> None:
        if not hasattr(self, "life"):
            return
        head = self.life.engine._held.head
        report = self.loop.run_until_complete(verify(self.life.engine._repository, head))
        assert report.sound, report.damaged
        assert {record.sequence for record in head.snapshots} <= self.committed.keys()


TestAgentLife = AgentLife.TestCase
TestAgentLife.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
