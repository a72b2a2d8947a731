"""The page over HTTP: every state renders, nothing is taken for markup, forms do what they say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element

import aiohttp
import html5lib
import pytest

from supervisor.errors import AgentError, UsageError
from supervisor.http.admin.render import CONTENT_SECURITY_POLICY, Renderer
from tests.unit.http.admin_page.support import GIB, NOW, FakeDaemon, admin_door, no_devices, record
from tests.unit.http.support import TOKEN, token_keeper

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</textarea></title></style><b>",
    "{{ 7*7 }}{% raw %}",
    "photo\u202egnp.exe",
    "bell\x07\x1b[31m",
    "\udcff\udcfe.txt",
    "&lt;&amp;",
    "javascript:alert(1)",
)
NASTY = " ".join(HOSTILE)

Change = Callable[[FakeDaemon], None]


def _boot(daemon: FakeDaemon) -> None:
    daemon.document.update(phase="boot", ready=False, timings={"boot": 0.1})
    daemon.document["agent"].update(state="stopped", pid=None, uid=None, version=None)
    daemon.document["snapshots"].update(last=None, count=0)
    daemon.document["bucket"].update(epoch=None, writer=None, reachable=None)
    daemon.records, daemon.lines, daemon.points, daemon.settings = [], [], [], []


def _restoring(daemon: FakeDaemon) -> None:
    _boot(daemon)
    daemon.document.update(phase="restore", timings={"boot": 0.1, "claim": 0.2, "restore": 5.0})


def _fenced(daemon: FakeDaemon) -> None:
    daemon.document.update(phase="drain", ready=False)
    daemon.problem("fenced", "another writer has the repository")


def _crash_loop(daemon: FakeDaemon) -> None:
    daemon.document["ready"] = False
    daemon.document["agent"].update(state="crash-loop", pid=None, last_exit=-9, restarts=5)
    daemon.problem("agent-crash-loop", "the agent was given up")
    daemon.device_list = AgentError("the agent is not running")


def _unreachable(daemon: FakeDaemon) -> None:
    daemon.problem("bucket", "the bucket does not answer")
    daemon.document["bucket"].update(reachable=False, last_error="timed out")
    daemon.document["snapshots"]["pending"] = True


def _empty(daemon: FakeDaemon) -> None:
    daemon.records = []
    daemon.document["snapshots"].update(last=None, count=0)
    daemon.device_list = no_devices()


def _many(daemon: FakeDaemon) -> None:
    daemon.records = [record(number) for number in range(5000, 0, -1)]


def _busy(daemon: FakeDaemon) -> None:
    daemon.in_maintenance = {"on": True, "reason": "disk", "since": NOW - 5}
    daemon.device_list = {
        "pending": [{"requestId": f"r{n}", "displayName": f"Phone {n}", "ts": NOW * 1000} for n in range(3)],
        "paired": [{"deviceId": f"d{n}"} for n in range(200)],
    }
    usage = {"used": GIB, "total": 2 * GIB}
    daemon.points = [{"at": NOW + n, "resources": {"memory": usage, "disk": usage}} for n in range(240)]
    daemon.lines = [{"number": n, "at": NOW, "text": "x" * 200} for n in range(1, 2001)]
    daemon.records[0]["pin"] = "before-restore"
    daemon.records[1]["reason"] = "restore"
    daemon.audit_entries = [
        {"at": NOW, "who": "anna", "method": "GET", "route": "/x", "parameters": {}, "outcome": "refused", "code": "no"}
    ]


def _hostile(daemon: FakeDaemon) -> None:
    daemon.document["agent"].update(name=NASTY, version=NASTY)
    daemon.document["bucket"].update(url=NASTY, last_error=NASTY)
    daemon.document["phase"] = "serve"
    daemon.problem(NASTY, NASTY, NASTY)
    daemon.records = [record(n, pin=NASTY, note=NASTY, reason=NASTY, agent=NASTY) for n in (3, 2, 1)]
    device = dict.fromkeys(("requestId", "deviceId", "displayName", "platform", "clientId", "role", "remoteIp"), NASTY)
    daemon.device_list = {"pending": [device], "paired": [device]}
    daemon.lines = [{"number": n, "at": NOW, "text": text} for n, text in enumerate(HOSTILE, 1)]
    daemon.in_maintenance = {"on": True, "reason": NASTY, "since": NOW}
    daemon.audit_entries = [
        {
            "at": NOW,
            "who": NASTY,
            "method": NASTY,
            "route": NASTY,
            "parameters": {"action": NASTY, "path": NASTY},
            "outcome": NASTY,
            "code": NASTY,
        }
    ]
    daemon.settings = [{"name": NASTY, "value": NASTY, "origin": NASTY}]
    daemon.rescued = [{"key": f"rescue/{NASTY}", "stored_at": NOW, "manifest_bytes": 5}]
    daemon.differences = [{"path": NASTY, "what": "added", "before": None, "after": 1}]
    daemon.document["isolation"][0]["reason"] = NASTY


def _healthy(daemon: FakeDaemon) -> None:
    pass


STATES: list[Change] = [
    _healthy, _boot, _restoring, _fenced, _crash_loop, _unreachable, _empty, _many, _busy, _hostile
]  # fmt: skip
PATHS = (
    "/_admin/",
    "/_admin/snapshots",
    "/_admin/snapshots?pinned",
    "/_admin/snapshots/2",
    "/_admin/restore?snapshot=2",
    "/_admin/restore?snapshot=rescue%2Fx",
)


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def parse(body: str) -> Element:
    """The page as a browser's parser sees it; what is not well-formed is an error."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    tree: Element = parser.parse(body)
    return tree


def check_page(body: str) -> Element:
    """What holds for every page in every state."""
    tree = parse(body)
    elements = list(tree.iter())
    names = [element.tag for element in elements if isinstance(element.tag, str)]
    for element in elements:
        for name in element.attrib:
            assert name != "style", "an inline style"
            assert not str(name).startswith("on"), f"an inline handler: {name}"
    assert "style" not in names
    scripts = [element for element in elements if element.tag == "script"]
    assert all(script.get("src", "").startswith("/_admin/static/") and not script.text for script in scripts)
    for element in elements:
        for name in ("href", "src", "action"):
            address = element.get(name)
            if address is not None and isinstance(element.tag, str):
                assert re.match(r"/(?!/)|#", address), address
    ids = [element.get("id") for element in elements if element.get("id")]
    assert len(ids) == len(set(ids)), "an id twice"
    for element in elements:
        for reference in (element.get("aria-labelledby"), element.get("for")):
            assert reference is None or reference in ids, reference
    headings = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings)), headings
    labelled = {element.get("for") for element in elements if element.tag == "label"}
    for element in elements:
        if element.tag in ("input", "textarea") and element.get("type") != "hidden":
            assert element.get("id") in labelled, "a field without a label"
        if element.tag == "button":
            assert "".join(element.itertext()).strip(), "a button without words"
        if element.tag == "table":
            assert any(cell.tag == "th" and cell.get("scope") for cell in element.iter())
    return tree


@pytest.mark.parametrize("state", STATES)
async def test_every_page_is_sound_in_every_state(
    daemon: FakeDaemon, session: aiohttp.ClientSession, state: Change
) -> None:
    state(daemon)
    async with admin_door(daemon, auth="token") as door:
        for path in PATHS:
            async with session.get(door.url + path) as answer:
                body = await answer.text()
                assert answer.status in (200, 404), body
                assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
                assert answer.headers["Cache-Control"] == "no-store"
                assert len(body) < 150_000
                check_page(body)


async def test_whatever_the_agent_says_is_text_and_nothing_of_it_is_hidden(
    daemon: FakeDaemon, session: aiohttp.ClientSession
) -> None:
    _hostile(daemon)
    async with admin_door(daemon) as door:
        for path in PATHS[:5]:
            async with session.get(door.url + path) as answer:
                body = await answer.text()
            tree = parse(body)
            names = {element.tag for element in tree.iter()}
            assert not names & {"b", "img src", "iframe"}
            assert all(image.get("src", "").startswith("/_admin/static/") for image in tree.iter("img"))
            assert "\u202e" not in body
            assert "\x07" not in body
            assert "49" not in re.findall(r"\b49\b", "".join(tree.find(".//main").itertext()))  # type: ignore[union-attr]
            text = "".join(tree.itertext())
            assert "photo\\u202egnp.exe" in text
            assert "<script>alert(1)</script>" in text


async def test_the_note_of_a_snapshot_survives_its_form(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    note = '\n first line\n</textarea> & "second"'
    daemon.records = [record(1, note=note)]
    async with admin_door(daemon) as door, session.get(door.url + "/_admin/snapshots/1") as answer:
        tree = parse(await answer.text())
    assert "".join(tree.find(".//textarea").itertext()) == note  # type: ignore[union-attr]


async def test_five_thousand_snapshots_make_a_small_page(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    _many(daemon)
    async with admin_door(daemon) as door:
        async with session.get(door.url + "/_admin/") as answer:
            assert len(await answer.read()) < 40_000
        async with session.get(door.url + "/_admin/snapshots") as answer:
            body = await answer.text()
    assert len(body) < 60_000
    assert "5,000 kept" in body
    assert "Older" in body


async def test_a_part_that_fails_says_so_and_fails_alone(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    daemon.device_list = AgentError("the gateway does not answer", hint="wait")
    async with admin_door(daemon) as door, session.get(door.url + "/_admin/") as answer:
        body = await answer.text()
        assert answer.status == 200
    assert "the gateway does not answer" in body
    assert "Alive and well" in body


async def post(session: aiohttp.ClientSession, url: str, action: str, **fields: str) -> str:
    """Send a form as a browser does; the page that is shown afterwards."""
    origin = url.rstrip("/")
    async with session.post(f"{url}/_admin/do/{action}", data=fields, headers={"Origin": origin}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.history[0].status == 303
        body = await answer.text()
        check_page(body)
        return body


@pytest.mark.parametrize(
    ("action", "fields", "asked"),
    [
        ("snapshot", {}, ("snapshot", "operator", "")),
        ("snapshot", {"note": "why"}, ("snapshot", "operator", "why")),
        ("restore", {"snapshot": "39"}, ("restore", 39, "")),
        ("restore", {"snapshot": "39", "path": ".openclaw/x"}, ("restore", 39, ".openclaw/x")),
        ("restore", {"snapshot": "rescue/3-a"}, ("restore", "rescue/3-a", "")),
        ("undo", {}, ("undo",)),
        ("pin", {"snapshot": "7", "pin": "keep"}, ("annotate", 7, "keep", None)),
        ("pin", {"snapshot": "7"}, ("annotate", 7, "kept by an operator", None)),
        ("pin", {"snapshot": "7", "how": "unpin"}, ("annotate", 7, "", None)),
        ("note", {"snapshot": "7", "note": "n"}, ("annotate", 7, None, "n")),
        ("restart", {}, ("restart",)),
        ("stop", {}, ("stop",)),
        ("start", {}, ("start",)),
        ("leave-safe-mode", {}, ("leave-safe-mode",)),
        ("maintenance-on", {"reason": "disk"}, ("maintenance", True, "disk")),
        ("maintenance-off", {}, ("maintenance", False, "")),
        ("device-approve", {"device": "r1"}, ("approve", "r1")),
        ("device-approve-all", {}, ("approve-all",)),
        ("device-reject", {"device": "r1"}, ("reject", "r1")),
        ("device-remove", {"device": "d1"}, ("remove", "d1")),
    ],
)
async def test_every_form_does_what_it_says_and_the_page_tells(
    daemon: FakeDaemon, session: aiohttp.ClientSession, action: str, fields: dict[str, str], asked: tuple[Any, ...]
) -> None:
    async with admin_door(daemon) as door:
        body = await post(session, door.url, action, **fields)
    assert daemon.asked == [asked]
    assert 'class="notice good"' in body


async def test_a_restore_can_be_taken_back_from_the_page_that_tells_of_it(
    daemon: FakeDaemon, session: aiohttp.ClientSession
) -> None:
    async with admin_door(daemon) as door:
        body = await post(session, door.url, "restore", snapshot="39")
    assert "Restored: snapshot 39, which is now snapshot 44." in body
    assert "Undo the restore" in body


async def test_what_does_not_work_is_told_with_what_to_do(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    daemon.failure = UsageError("there is no <b>snapshot</b> 39", hint="list them")
    async with admin_door(daemon) as door:
        body = await post(session, door.url, "restore", snapshot="39")
        assert 'class="notice bad"' in body
        assert "There is no &lt;b&gt;snapshot&lt;/b&gt; 39" in body
        assert "List them" in body
        body = await post(session, door.url, "restore", snapshot="nonsense")
        assert "neither the number of a snapshot" in body
        body = await post(session, door.url, "snapshot", note="x" * 501)
        assert "at most 500 characters" in body


async def test_a_form_from_elsewhere_is_refused(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    async with admin_door(daemon) as door:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"User-Agent": "Mozilla/5.0"},
        ):
            async with session.post(door.url + "/_admin/do/stop", data={"a": "b"}, headers=headers) as answer:
                assert answer.status == 403, headers
        async with session.get(door.url + "/_admin/do/stop") as answer:
            assert answer.status == 405
        origin = {"Origin": door.url}
        async with session.post(door.url + "/_admin/do/stop", json={}, headers=origin) as answer:
            assert answer.status == 415
        async with session.post(door.url + "/_admin/do/nothing", data={}, headers=origin) as answer:
            assert answer.status == 404
    assert daemon.asked == []


async def test_the_page_is_for_operators(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    async with admin_door(daemon, keeper=token_keeper(), auth="token") as door:
        for path in (*PATHS, "/_admin"):
            async with session.get(door.url + path, allow_redirects=False) as answer:
                assert answer.status == 401
        async with session.get(door.url + "/_admin/", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
            assert 'action="/_admin/logout"' in await answer.text()


async def test_no_link_can_put_words_into_the_pages_mouth(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    async with admin_door(daemon) as door, session.get(door.url + "/_admin/?notice=All+is+lost") as answer:
        body = await answer.text()
    assert "All is lost" not in body
    assert 'class="notice' not in body


async def test_static_files_are_kept_by_browsers_for_as_long_as_they_stay_the_same(
    daemon: FakeDaemon, session: aiohttp.ClientSession
) -> None:
    async with admin_door(daemon) as door:
        async with session.get(door.url + "/_admin/") as answer:
            names = re.findall(r"/_admin/static/([\w.]+)", await answer.text())
        assert len(set(names)) == 3
        for name in set(names):
            async with session.get(f"{door.url}/_admin/static/{name}") as answer:
                assert answer.status == 200
                assert "immutable" in answer.headers["Cache-Control"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                etag = answer.headers["ETag"]
            async with session.get(f"{door.url}/_admin/static/{name}", headers={"If-None-Match": etag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        for name in ("admin.css", "admin.0000000000000000.css", "..%2Fpage.py", "nothing"):
            async with session.get(f"{door.url}/_admin/static/{name}") as answer:
                assert answer.status in (400, 404)


async def test_the_log_is_filtered_without_a_script_too(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    daemon.lines = [{"number": n, "at": NOW, "text": f"line {n} of {'Cats' if n % 2 else 'dogs'}"} for n in range(1, 9)]
    async with admin_door(daemon) as door, session.get(door.url + "/_admin/?q=cats") as answer:
        body = await answer.text()
    assert "line 1 of Cats" in body
    assert "line 2 of dogs" not in body


async def test_a_snapshot_that_is_gone_is_told_as_a_page(daemon: FakeDaemon, session: aiohttp.ClientSession) -> None:
    async with admin_door(daemon) as door:
        for path in ("/_admin/snapshots/9999", "/_admin/snapshots/x", "/_admin/restore?snapshot=9999"):
            async with session.get(door.url + path) as answer:
                assert answer.status == 404
                assert "That did not work" in await answer.text()
        async with session.get(door.url + "/_admin/restore?snapshot=..%2Fx") as answer:
            assert answer.status == 400
        async with session.get(door.url + "/_admin", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, "/_admin/")


def test_a_missing_value_in_a_template_is_an_error_and_no_gap() -> None:
    with pytest.raises(Exception, match="undefined"):
        Renderer().page("error.html", {"now": NOW})
