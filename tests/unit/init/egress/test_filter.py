from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from supervisor.init.cell.measure import Finding
from supervisor.init.cell.user import AgentUser, same_user
from supervisor.init.egress import filter as egress
from supervisor.init.egress.filter import Egress, resolve, resolvers

AGENT = AgentUser(54321, 54321, own=True)


async def found(user: AgentUser, *wanted: str) -> Finding:
    findings: list[Finding] = []
    await Egress(user, wanted, ports=[], observed=findings.extend, denied=lambda packets: None).start()
    return findings[0]


async def test_what_was_asked_to_be_open_is_off_by_will(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "PLACES", "/nowhere")
    finding = await found(AGENT, "open")
    assert (finding.on, finding.hint) == (False, "")


async def test_without_a_user_of_its_own_there_is_nothing_to_name() -> None:
    assert "no user of its own" in (await found(same_user("x"), "public")).reason


async def test_without_nft_it_is_off_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "PLACES", "/nowhere")
    finding = await found(AGENT, "public")
    assert not finding.on
    assert "nftables" in finding.hint


async def test_an_nft_that_fails_turns_it_off_with_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\ncat >/dev/null\necho 'Operation not permitted' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(egress, "PLACES", f"{tmp_path}:/bin:/usr/bin")
    finding = await found(AGENT, "public")
    assert not finding.on
    assert "Operation not permitted" in finding.reason


def test_name_servers_are_read_from_the_machines_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# a remark\nsearch x\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver bad\n")
    assert resolvers(path) == {ipaddress.ip_address("10.0.0.2"), ipaddress.ip_address("fe80::1")}
    assert resolvers(tmp_path / "none") == set()


async def test_hosts_and_addresses_become_addresses_and_unknown_hosts_none() -> None:
    found = await resolve(["1.2.3.4", "localhost", "no-such-host.invalid"])
    assert ipaddress.ip_address("1.2.3.4") in found
    assert any(address.is_loopback for address in found)
