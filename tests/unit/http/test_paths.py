import pytest

from supervisor.http.answers import HttpError
from supervisor.http.paths import is_public, refuse_unclear


@pytest.mark.parametrize(
    "target",
    [
        "/../status",
        "/%2e%2e/status",
        "/a/%2E./b",
        "/a/..%2fstatus",
        "/a\\..\\b",
        "/a%5c..%5cb",
        "/.",
        "/a/./b",
    ],
)
def test_a_dot_segment_in_any_encoding_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="segment"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["http://evil.example/", "*", "evil.example:443", ""])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="absolute"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/a#b", "/a?x=#", "/ü"])
def test_what_a_client_should_have_encoded_is_refused(target: str) -> None:
    with pytest.raises(HttpError, match="encode"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/a%00b", "/a%0d%0ab", "/a\tb"])
def test_control_characters_are_refused(target: str) -> None:
    with pytest.raises(HttpError, match="control"):
        refuse_unclear(target)


@pytest.mark.parametrize("target", ["/", "//status", "/a/%2F/b", "/sessions/agent%3Amain", "/a..b/...", "/?x=../y"])
def test_what_every_program_reads_alike_passes(target: str) -> None:
    refuse_unclear(target)


@pytest.mark.parametrize("target", ["/hooks", "/hooks/telegram", "/hooks/telegram?x=/../"])
def test_a_public_path_includes_what_is_below_it(target: str) -> None:
    assert is_public(target, ["/hooks"])


@pytest.mark.parametrize(
    "target", ["/hooksx", "/", "//hooks", "/hooks//x", "/hooks/%2e%2e/x", "/%68ooks", "/hooks\\x", "/HOOKS"]
)
def test_nothing_else_is_public(target: str) -> None:
    assert not is_public(target, ["/hooks"])
