from pathlib import Path
from typing import Any

import pytest

from agent_runtime.contract import AgentSettings, Caller
from agent_runtime.openclaw.identity import IDENTITY_HEADERS, NOT_LOCAL, auth_settings, introduction


def settings(**changes: Any) -> AgentSettings:
    return AgentSettings(Path("/home"), Path("/scratch"), 18789, "the-password", **changes)


def test_an_operator_is_introduced_with_all_scopes_and_a_user_with_those_for_talking() -> None:
    operator = introduction(Caller("alice@example.com", operator=True, address="198.51.100.9", host="claw.example.com"))
    assert operator["X-Forwarded-User"] == "alice@example.com"
    assert "operator.admin" in operator["X-OpenClaw-Scopes"].split(",")
    assert operator["X-Forwarded-For"] == "198.51.100.9"
    assert operator["X-Forwarded-Host"] == "claw.example.com"
    user = introduction(Caller("bob@example.com"))["X-OpenClaw-Scopes"].split(",")
    assert "operator.write" in user
    assert not {"operator.admin", "operator.pairing"} & set(user)


def test_nobody_is_introduced_as_nobody() -> None:
    assert set(introduction(Caller(""))) == {"X-Forwarded-For", "X-Forwarded-Proto"}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1", NOT_LOCAL),
        ("127.8.8.8", NOT_LOCAL),
        ("::1", NOT_LOCAL),
        ("::ffff:127.0.0.1", NOT_LOCAL),
        ("0.0.0.0", NOT_LOCAL),
        ("", NOT_LOCAL),
        ("no address", NOT_LOCAL),
        ("10.0.0.1, 127.0.0.1", NOT_LOCAL),
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::7", "2001:db8::7"),
    ],
)
def test_a_client_is_never_told_to_be_local(address: str, told: str) -> None:
    assert introduction(Caller("x", address=address))["X-Forwarded-For"] == told


def test_every_header_that_the_front_door_sets_is_taken_from_a_client_first() -> None:
    said = introduction(Caller("x", operator=True, address="10.0.0.1", host="h"))
    assert {name.lower() for name in said} <= IDENTITY_HEADERS


def test_a_device_gets_an_operators_scopes_by_itself_only_where_everybody_is_one() -> None:
    known = auth_settings(settings(operators=("operator", "alice@example.com")))
    assert set(known["identityScopes"]) == {"operator", "alice@example.com"}
    assert "operator.admin" not in known["trustedProxy"]["deviceAutoApprove"]["scopes"]
    assert "operator.admin" in known["identityScopes"]["alice@example.com"]
    everybody = auth_settings(settings(all_operate=True))
    assert "operator.admin" in everybody["trustedProxy"]["deviceAutoApprove"]["scopes"]
    assert "the-password" not in str(known), "it stands in the environment alone"
