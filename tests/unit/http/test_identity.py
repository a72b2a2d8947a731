import pytest
from aiohttp.test_utils import make_mocked_request

from agent_runtime.contract import Caller
from supervisor.http.auth import ANYONE, Visitor
from supervisor.http.identity import Identity

ALICE = Visitor("alice@example.com", "access", operator=True, address="198.51.100.9")


def told(visitor: Visitor, host: str = "claw.example.com", origin: str = "", *public: str) -> Caller:
    callers: list[Caller] = []

    def introduce(caller: Caller) -> dict[str, str]:
        callers.append(caller)
        return {}

    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    Identity(introduce, public_origins=public).to_agent(make_mocked_request("GET", "/", headers), visitor)
    return callers[0]


def test_the_agent_hears_who_it_is_and_whence() -> None:
    assert told(ALICE) == Caller("alice@example.com", True, "198.51.100.9", "claw.example.com", "https")


def test_anyone_has_no_name() -> None:
    assert told(ANYONE).name == ""
    assert not told(ANYONE).operator


@pytest.mark.parametrize(
    ("via", "host", "origin", "public", "scheme"),
    [
        ("access", "claw.example.com", "", (), "https"),
        ("access", "127.0.0.1:8080", "", (), "http"),
        ("session", "claw.example.com", "", (), "http"),
        ("session", "claw.example.com", "https://claw.example.com", (), "https"),
        ("session", "claw.example.com", "https://evil.example", (), "http"),
        ("session", "claw.example.com", "", ("https://claw.example.com",), "https"),
        ("session", "claw.example.com:8443", "", ("https://claw.example.com:8443",), "https"),
        ("loopback", "localhost:8080", "http://localhost:8080", (), "http"),
        ("session", "b@d host", "", (), "http"),
    ],
)
def test_the_scheme_is_the_browsers(via: str, host: str, origin: str, public: tuple[str, ...], scheme: str) -> None:
    assert told(Visitor("x", via), host, origin, *public).scheme == scheme
