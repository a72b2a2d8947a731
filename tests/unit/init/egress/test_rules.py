from __future__ import annotations

import ipaddress

import pytest

from supervisor.init.egress.rules import PRIVATE_V4, PRIVATE_V6, Policy, ruleset

PUBLIC = ("1.1.1.1", "93.184.215.14", "2606:2800:21f::1", "2a00:1450::1")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0"),
        *("198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fd00::1", "fd00:ec2::254", "ff02::1"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:a00:1::1"),
    ],
)
def test_what_is_not_public_is_in_a_refused_range(address: str) -> None:
    plain = ipaddress.ip_address(address)
    ranges = [ipaddress.ip_network(text) for text in (PRIVATE_V4 if plain.version == 4 else PRIVATE_V6)]
    assert any(plain in network for network in ranges)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_in_none(address: str) -> None:
    plain = ipaddress.ip_address(address)
    ranges = [ipaddress.ip_network(text) for text in (PRIVATE_V4 if plain.version == 4 else PRIVATE_V6)]
    assert not any(plain in network for network in ranges)


def test_only_packets_of_the_agents_user_are_looked_at() -> None:
    text = ruleset(Policy(4242))
    assert "meta skuid 4242 goto agent" in text
    assert "policy accept" in text


def test_name_servers_come_before_what_is_refused() -> None:
    text = ruleset(Policy(4242, resolvers=[ipaddress.ip_address("10.0.0.2")]))
    assert text.index("ip daddr 10.0.0.2 udp dport 53 accept") < text.index("goto refused")


def test_an_allow_list_never_opens_a_private_address() -> None:
    text = ruleset(Policy(4242, allowed=[ipaddress.ip_address("10.0.0.9"), ipaddress.ip_address("1.1.1.1")]))
    assert text.index("169.254.0.0/16") < text.index("1.1.1.1")
    assert text.rstrip().splitlines()[text.splitlines().index("  chain refused {") - 2].strip() == "goto refused"
