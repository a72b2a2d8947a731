from typing import Any

from supervisor.health.cost import estimate
from supervisor.http.admin.machine import cost_words, meters
from supervisor.http.admin.sources import Answer, Sources
from supervisor.http.admin.sparkline import sparkline
from supervisor.http.admin.timeline import DIFF_ROWS, PAGE_ROWS, diff_view, timeline
from supervisor.http.admin.view import AUDIT_ROWS, audit_view, device_view, overview, phase_views
from tests.unit.http.admin_page.support import NOW, FakeDaemon, record


def walk(records: list[dict[str, Any]], **options: Any) -> list[int]:
    """The sequences on all pages, following the links to older ones."""
    seen: list[int] = []
    before = None
    while True:
        part = timeline(records, before=before, **options)
        seen += [snapshot.sequence for day in part.days for snapshot in day.snapshots]
        before = part.older
        if before is None:
            return seen


def test_the_pages_of_five_thousand_snapshots_show_each_exactly_once() -> None:
    records = [record(number) for number in range(5000, 0, -1)]
    assert walk(records) == list(range(5000, 0, -1))


def test_a_page_knows_the_way_back() -> None:
    records = [record(number) for number in range(100, 0, -1)]
    second = timeline(records, before=timeline(records).older)
    assert second.newer is not None
    first = timeline(records, before=second.newer)
    assert first.days[0].snapshots[0].sequence == 100
    assert timeline(records).newer is None


def test_snapshots_that_vanish_between_two_pages_leave_no_hole() -> None:
    records = [record(number) for number in range(100, 0, -1)]
    older = timeline(records).older
    thinned = [entry for entry in records if entry["sequence"] % 3]
    rest = timeline(thinned, before=older).days[0].snapshots
    assert rest[0].sequence == max(e["sequence"] for e in thinned if older and e["sequence"] < older)


def test_only_pinned_ones_can_be_shown() -> None:
    records = [record(number, pin="kept" if number % 10 == 0 else "") for number in range(1000, 0, -1)]
    assert walk(records, only_pinned=True) == list(range(1000, 0, -10))
    assert timeline(records).pinned == 100


def test_the_newest_is_the_newest_that_was_not_kept_aside() -> None:
    part = timeline([record(3, promoted=False), record(2), record(1)])
    assert [s.newest for s in part.days[0].snapshots] == [False, True, False]
    assert "kept aside" in part.days[0].snapshots[0].flags[0]


def test_snapshots_are_grouped_by_their_day() -> None:
    part = timeline([record(2, at=NOW), record(1, at=NOW - 86400)])
    assert [day.title for day in part.days] == ["Friday, 15 January 2027", "Thursday, 14 January 2027"]


def test_phases_follow_each_other_from_the_start_of_the_boot() -> None:
    views = phase_views({"boot": 1.0, "claim": 2.0, "serve": 100.0}, "serve", now=1000.0)
    assert [(view.name, view.began, view.running) for view in views] == [
        ("boot", 897.0, False),
        ("claim", 898.0, False),
        ("serve", 900.0, True),
    ]


def test_a_device_may_lack_every_field_and_lie_in_the_rest() -> None:
    bare = device_view({}, "requestId")
    assert (bare.handle, bare.name, bare.at) == ("", "unnamed device", None)
    odd = device_view(
        {"requestId": 7, "displayName": ["x"], "ts": "soon", "roles": [1, "operator"], "platform": None}, "requestId"
    )
    assert (odd.handle, odd.name, odd.at) == ("7", "unnamed device", None)
    assert len(device_view({"displayName": "x" * 5000}, "requestId").name) <= 60


def test_a_diff_counts_everything_and_lists_the_first() -> None:
    changes = [{"path": f"{n}", "what": "added", "before": None, "after": n} for n in range(1000)]
    changes.append({"path": "z", "what": "changed", "before": 1, "after": 2048})
    view = diff_view(changes)
    assert (view.added, view.changed, view.removed, view.total, len(view.rows)) == (1000, 1, 0, 1001, DIFF_ROWS)
    assert diff_view(changes[-1:]).rows == (("changed", "z", "1 B → 2.0 KiB"),)


def test_meters_say_in_words_what_they_draw() -> None:
    points = [
        {"at": NOW + n, "resources": {"memory": {"used": n * 100, "total": 1000}, "disk": None}} for n in (1, 7, 5)
    ]
    (memory,) = meters(points)
    assert memory.alternative == "Memory over the last 4.0 s: now 500 B of 1000 B, 50%; at most 700 B."
    assert meters([]) == ()


def test_a_sparkline_stays_in_its_box() -> None:
    drawn = sparkline([(0.0, -1.0), (1.0, 0.5), (2.0, 9.0)])
    assert drawn is not None
    assert drawn.line == "M0.0 47.0L120.0 24.0L240.0 1.0"
    assert sparkline([(0.0, 1.0)]) is None
    assert sparkline([(5.0, 1.0), (5.0, 1.0)]) is None


def test_the_cost_is_told_line_by_line() -> None:
    cost = estimate(seconds=730.5 * 3600, class_a=2_000_000, class_b=1_000_000, stored_bytes=5e9)
    lines = [{"name": line.name, "amount": line.amount, "dollars": line.dollars} for line in cost.lines]
    assert cost_words({"lines": lines}) == (
        ("class A requests", "2,000,000", "$9.00"),
        ("class B requests", "1,000,000", "$0.36"),
        ("stored GB", "5.00", "$0.07"),
    )


def test_an_entry_of_the_audit_log_says_what_in_one_line() -> None:
    entry = {
        "at": 1.0,
        "who": "anna",
        "method": "POST",
        "route": "/_admin/do/{action}",
        "parameters": {"action": "restore", "snapshot": "5", "path": ""},
        "outcome": "done",
        "code": "",
    }
    assert audit_view(entry).what == "restore (snapshot 5)"
    assert audit_view({**entry, "code": "usage"}).outcome == "failed"
    refused = audit_view({**entry, "parameters": {}, "outcome": "refused", "code": "cross-site"})
    assert (refused.what, refused.outcome) == ("POST /_admin/do/{action}", "refused")


def test_lists_on_the_first_page_are_short() -> None:
    assert max(AUDIT_ROWS, PAGE_ROWS) < 50


def test_a_device_that_comes_later_moves_none_that_waits_already() -> None:
    daemon = FakeDaemon()
    daemon.device_list = {"pending": [{"requestId": "a", "ts": 2000}, {"requestId": "z", "ts": 1000}], "paired": []}
    sources = Sources(
        now=NOW,
        status=daemon.status(),
        resources=daemon.resources(),
        cost=daemon.cost(),
        logs=[],
        snapshots=Answer([]),
        devices=Answer(daemon.device_list),
        maintenance=daemon.maintenance(),
        audit=[],
        config=[],
    )
    assert [device.handle for device in overview(sources).pending] == ["z", "a"]
