import json

from supervisor.health.problems import Problem
from supervisor.health.status import (
    MEASURES,
    NOT_BUILT,
    AgentStatus,
    BucketStatus,
    LastSnapshot,
    Measure,
    SnapshotStatus,
    isolation,
    status_document,
)


def test_the_document_has_its_stable_fields() -> None:
    document = status_document(
        phase="serve",
        ready=True,
        problems=[Problem("disk", "full", "make room", 5.0)],
        agent=AgentStatus("echo", "1.0", pid=12, uid=1000, restarts=1, last_exit=-9, state="running"),
        snapshots=SnapshotStatus(LastSnapshot(3, 1.0, 2.0, 10, 2000, True), count=3, pending=True),
        bucket=BucketStatus("file:///b", epoch=2, writer="boot-1", reachable=True),
        timings={"boot": 0.123456},
    )
    del document["isolation"]
    assert document.pop("broker") == {}
    assert json.loads(json.dumps(document)) == {
        "phase": "serve",
        "ready": True,
        "problems": [{"code": "disk", "message": "full", "hint": "make room", "since": 5.0}],
        "agent": {
            "name": "echo",
            "version": "1.0",
            "pid": 12,
            "uid": 1000,
            "restarts": 1,
            "last_exit": -9,
            "state": "running",
        },
        "snapshots": {
            "last": {
                "sequence": 3,
                "taken_at": 1.0,
                "committed_at": 2.0,
                "files": 10,
                "bytes": 2000,
                "consistent": True,
            },
            "count": 3,
            "pending": True,
        },
        "bucket": {
            "url": "file:///b",
            "epoch": 2,
            "writer": "boot-1",
            "reachable": True,
            "last_error": None,
        },
        "timings": {"boot": 0.123},
    }


def test_before_the_first_snapshot_last_is_null() -> None:
    document = status_document(
        phase="boot",
        ready=False,
        problems=[],
        agent=AgentStatus("echo"),
        snapshots=SnapshotStatus(),
        bucket=BucketStatus("file:///b"),
        timings={},
    )
    assert document["snapshots"] == {"last": None, "count": 0, "pending": False}


def test_a_measure_that_nobody_answers_for_is_off_and_says_so() -> None:
    entries = isolation([])
    assert [entry["measure"] for entry in entries] == list(MEASURES)
    assert all(entry["state"] == "off" and entry["reason"] == NOT_BUILT for entry in entries)


def test_a_measure_in_force_is_on_in_its_place() -> None:
    entries = isolation([Measure("landlock", "on"), Measure("own-user", "off", "not root")])
    by_name = {entry["measure"]: entry for entry in entries}
    assert by_name["landlock"]["state"] == "on"
    assert by_name["own-user"]["reason"] == "not root"
    assert len(entries) == len(MEASURES)
