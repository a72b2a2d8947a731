"""Whatever target a client writes: refused, or read alike by everybody who might read it."""

import asyncio
import re
from urllib.parse import unquote

from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from supervisor.http.answers import HttpError
from supervisor.http.paths import OwnPaths, PublicPaths, refuse_unclear
from supervisor.settings.options import public_paths

PATTERNS = (
    "/livez",
    "/status",
    "/metrics",
    "/sandbox-health",
    "/api/status",
    "/api/admin",
    "/_admin",
    "/api/admin/devices/{id}/approve",
    "/api/admin/{rest:.*}",
    "/_admin/{rest:.*}",
)
OWN = OwnPaths.of(PATTERNS)

PIECES = (
    *(
        "/",
        "//",
        "/./",
        "/../",
        "\\",
        ";",
        ";x=1",
        "?",
        "#",
        "%",
        "%2",
        "%2f",
        "%2F",
        "%5c",
        "%2e",
        "%2E%2e",
        ".",
        "..",
        " ",
        "\t",
    ),
    *(
        "%00",
        "%0a",
        "%25",
        "%252f",
        "%c0%af",
        "%e0%80%af",
        "%ff",
        "%C3%A9",
        "é",
        "%5f",
        "%73",
        "x",
        "A",
        "@",
        ":",
        "http://h",
        "*",
    ),
    *(
        "api",
        "API",
        "admin",
        "_admin",
        "_ADMIN",
        "status",
        "Status",
        "metrics",
        "livez",
        "sandbox-health",
        "hooks",
        "%EF%BC%BF",
    ),
)
targets = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: "/" + "".join(pieces)),
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(max_size=20),
)


async def _own(_: web.Request) -> web.Response:
    raise NotImplementedError


async def _agents(_: web.Request) -> web.Response:
    raise NotImplementedError


def _router() -> web.UrlDispatcher:
    router = web.Application().router
    for pattern in PATTERNS:
        router.add_route("*", pattern, _own)
    router.add_route("*", "/{path:.*}", _agents)
    return router


ROUTER = _router()


def aiohttp_says_own(target: str) -> bool:
    """What aiohttp's router does with the target, given the URL that its parser makes of it."""
    path, _, query = target.partition("?")

    class Request:
        method = "GET"
        rel_url = URL.build(path=path, query_string=query, encoded=True)

    match = asyncio.run(ROUTER.resolve(Request()))  # type: ignore[arg-type]
    return match.handler is _own


def whatwg_path(target: str) -> str:
    """The path that a browser's URL parser makes of a target (https://url.spec.whatwg.org, the path state)."""
    text = re.sub(r"[\t\n\r]", "", target.strip("".join(map(chr, range(0x21)))))
    text = text.partition("#")[0].partition("?")[0].replace("\\", "/")
    if text.startswith("//"):
        text = "/" + text.lstrip("/").partition("/")[2]
    out: list[str] = []
    segments = text.split("/")[1:]
    for position, segment in enumerate(segments):
        plain = segment.lower().replace("%2e", ".")
        last = position == len(segments) - 1
        if plain == "..":
            out = out[:-1]
        elif plain != ".":
            out.append(segment)
        if last and plain in (".", ".."):
            out.append("")
    return "/" + "/".join(out)


def passes(target: str) -> bool:
    try:
        refuse_unclear(target)
        OWN.refuse_lookalike(target)
    except HttpError:
        return False
    return True


@given(targets)
@settings(max_examples=600, deadline=None)
@example("/_admin/..")
@example("/%5fadmin")
@example("//h/_admin")
@example("/_admin%2f")
@example("/..;/_admin")
@example("/status?x=/../y#z")
def test_all_readers_of_a_target_that_is_let_in_agree_whose_it_is(target: str) -> None:
    if not passes(target):
        return
    path = target.partition("?")[0]
    ours = OWN.holds(path)
    assert aiohttp_says_own(target) == ours
    assert OWN.holds(whatwg_path(target)) == ours
    assert OWN.holds(unquote(path)) == ours
    assert OWN.holds(re.sub("/+", "/", unquote(unquote(path))).lower().rstrip("/") or "/") == ours
    # And what a browser's parser makes of it is the same path: nothing is resolved, nothing cut off.
    assert whatwg_path(target) == path


@given(targets, st.lists(st.sampled_from(["/hooks/x", "/hooks/*", "/a/b/*", "/x"]), max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_public_target_is_never_ours_however_it_is_read(target: str, patterns: list[str]) -> None:
    public = PublicPaths(patterns, OWN)
    if not public.match(target):
        return
    path = target.partition("?")[0]
    assert not aiohttp_says_own(target)
    for reading in (path, unquote(path), whatwg_path(target)):
        assert reading == path
        assert any(
            reading == pattern or (pattern.endswith("/*") and reading.startswith(pattern[:-1])) for pattern in patterns
        )


@given(st.lists(targets, max_size=3).map(",".join))
@settings(max_examples=300, deadline=None)
def test_whatever_the_setting_takes_the_front_door_takes(value: str) -> None:
    try:
        patterns = public_paths(value)
    except ValueError:
        return
    PublicPaths(patterns, OWN)
