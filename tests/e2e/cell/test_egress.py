"""The packet filter, in a network of the test's own: what the agent's user reaches, and what everybody else does."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.support.networks import Networks, networks

pytestmark = pytest.mark.root

PUBLIC = ["93.184.215.14", "2606:2800:21f::1"]
PRIVATE = ["169.254.169.254", "10.1.2.3", "172.16.3.4", "192.168.1.1", "100.64.7.7", "fd00::9", "198.18.0.1"]
OWN_PUBLIC = "8.8.4.4"


def filtered(both: Networks, wanted: list[str], targets: list[tuple[str, int]]) -> dict[str, Any]:
    orders = json.dumps({"wanted": wanted, "ports": ["18789", "3000-3001"], "targets": targets})
    answer: dict[str, Any] = json.loads(
        both.run("vm", sys.executable, "-m", "tests.support.egress_driver", orders).splitlines()[-1]
    )
    assert answer["on"] == [True, True], answer["reasons"]
    return answer


def test_the_agent_reaches_public_addresses_only_and_the_supervisor_everything() -> None:
    with networks([*PUBLIC, *PRIVATE]) as both:
        both.run("vm", "ip", "addr", "add", OWN_PUBLIC, "dev", "lo")
        both.serve("world", [f"{address}:80" for address in (*PUBLIC, *PRIVATE)])
        own = ["127.0.0.1:18789", "127.0.0.1:3001", "::1:18789", "127.0.0.1:8080", "::1:8080", f"{OWN_PUBLIC}:8080"]
        both.serve("vm", own)
        targets = [(address, 80) for address in (*PUBLIC, *PRIVATE)]
        targets += [(host, int(port)) for host, _, port in (place.rpartition(":") for place in own)]
        answer = filtered(both, ["public"], targets)
    allowed = {f"{address}:80" for address in PUBLIC} | {"127.0.0.1:18789", "127.0.0.1:3001", "::1:18789"}
    assert {place for place, how in answer["agent"].items() if how == "connected"} == allowed
    assert {how for place, how in answer["agent"].items() if place not in allowed} == {"ECONNREFUSED"}, "told at once"
    assert set(answer["root"].values()) == {"connected"}
    assert set(answer["after"].values()) == {"connected"}, "the rules are gone with the daemon"
    assert answer["denied"] >= len(targets) - len(allowed)


def test_an_allow_list_closes_every_other_public_address() -> None:
    with networks([*PUBLIC, "93.184.215.15"]) as both:
        both.serve("world", [f"{address}:80" for address in (*PUBLIC, "93.184.215.15")])
        targets = [(address, 80) for address in (*PUBLIC, "93.184.215.15")]
        answer = filtered(both, [PUBLIC[0]], targets)
    assert [place for place, how in answer["agent"].items() if how == "connected"] == [f"{PUBLIC[0]}:80"]
    assert set(answer["root"].values()) == {"connected"}
