import pytest

from supervisor.errors import SettingsError
from supervisor.http.answers import HttpError
from supervisor.http.paths import OwnPaths, PublicPaths, refuse_unclear

OWN = OwnPaths.of(["/livez", "/status", "/metrics", "/api/status", "/_admin", "/_admin/{rest:.*}", "/api/admin/{x}/y"])


@pytest.mark.parametrize(
    "target",
    [
        "/../status",
        "/%2e%2e/status",
        "/a/%2E./b",
        "/a/..%2fstatus",
        "/a%5c..%5cb",
        "/.",
        "/a/./b",
        "/a/..;/status",
        "/a/..;x=y/status",
        "/%252e%252e/status",
    ],
)
def test_a_dot_segment_in_any_encoding_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="segment"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["http://evil.example/", "*", "evil.example:443", ""])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="absolute"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["//evil.example/status", "//status", "///"])
def test_a_target_that_a_url_parser_takes_for_a_host_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="host"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/a#b", "/a?x=#", "/ü", "/a\\b", "/a b", "/a\tb", "/a?x=\x7f"])
def test_what_a_client_should_have_encoded_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="encode"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/a%00b", "/a%0d%0ab", "/a%250ab", "/a%7f"])
def test_control_characters_are_refused(target: str) -> None:
    with pytest.raises(HttpError, match="control"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/%c0%ae%c0%ae/status", "/%c0%afstatus", "/%ff", "/%25ff", "/%ed%a0%80"])
def test_what_is_no_utf8_is_refused_overlong_forms_too(target: str) -> None:
    with pytest.raises(HttpError, match="UTF-8"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/100%", "/%zz", "/%4"])
def test_a_percent_sign_that_encodes_nothing_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="percent"):
        refuse_unclear(target)


def test_an_escape_of_an_escape_of_an_escape_ends_somewhere() -> None:
    with pytest.raises(HttpError, match="often"):
        refuse_unclear("/%2525252525252541")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a/",
        "/v1//a",
        "/a/%2F/b",
        "/sessions/agent%3Amain",
        "/a..b/...",
        "/?x=../y%zz",
        "/%C3%A9",
        "/.well-known/x",
    ],
)
def test_what_every_program_reads_alike_passes(target: str) -> None:
    refuse_unclear(target)


@pytest.mark.parametrize("path", ["/status", "/_admin", "/_admin/", "/_admin/a/b", "/api/admin/1/y", "/api/admin"])
def test_own_paths_are_single_ones_and_trees(path: str) -> None:
    assert OWN.holds(path)
    OWN.refuse_lookalike(path + "?x=1")


@pytest.mark.parametrize(
    "target",
    [
        "/STATUS",
        "/status/",
        "/status;x=1",
        "/%73tatus",
        "/%2573tatus",
        "/%5fadmin/x",
        "/_admin%2fx",
        "/_admin;/x",
        "/api//admin/x",
        "/api%2fadmin",
        "/Api/Admin/x?y",
        "/;/_admin/x",
        "/%EF%BC%BFadmin",
        "/_admin%5cx",
    ],
)
def test_what_a_less_strict_program_would_take_for_an_own_path_is_refused(target: str) -> None:
    assert not OWN.holds(target)
    with pytest.raises(HttpError, match="own"):
        OWN.refuse_lookalike(target)


@pytest.mark.parametrize(
    "target", ["/", "/statusx", "/status/x", "/api/adminx", "/a/status", "/api", "/?/status", "/é/status"]
)
def test_what_nobody_takes_for_an_own_path_is_the_agents(target: str) -> None:
    assert not OWN.holds(target)
    OWN.refuse_lookalike(target)


@pytest.mark.parametrize("target", ["/hooks/telegram", "/hooks/telegram?x=/../", "/wide/a", "/wide/a/b"])
def test_a_public_path_is_itself_and_with_a_star_what_is_below_it(target: str) -> None:
    assert PublicPaths(["/hooks/telegram", "/wide/*"], OWN).match(target)


@pytest.mark.parametrize(
    "target",
    [
        "/hooks/telegram/x",
        "/hooks/telegramx",
        "/hooks",
        "/",
        "//wide/x",
        "/wide//x",
        "/wide/%2e%2e/x",
        "/wide",
        "/wide/",
        "/%77ide/x",
        "/wide\\x",
        "/WIDE/x",
        "/wide/%61",
        "/wide/;x",
        "/widex/y",
        "/wide/.x",
    ],
)
def test_nothing_else_is_public(target: str) -> None:
    assert not PublicPaths(["/hooks/telegram", "/wide/*"], OWN).match(target)


@pytest.mark.parametrize("pattern", ["/*", "/api/*", "/status", "/Status", "/_admin/x", "/_admin/*", "/api/admin/*"])
def test_no_public_path_may_cover_one_of_the_front_doors_own(pattern: str) -> None:
    with pytest.raises(SettingsError, match="MOLTINIT_PUBLIC_PATHS"):
        PublicPaths([pattern], OWN)
