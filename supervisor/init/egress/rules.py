"""From a policy to a ruleset of nftables: text in, text out.

All rules hang on the user of the sending socket (`meta skuid`), in a table of our own that nobody else's rules are
touched by. A packet that is refused is answered at once, so that a program fails instead of waiting, and is counted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass

TABLE = "moltinit"

PUBLIC, OPEN = "public", "open"

PRIVATE_V4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
)
"""What is no public address: IANA's special-purpose registry (RFC 6890), multicast and reserved. The metadata service,
169.254.169.254, is among the link-local ones."""

PRIVATE_V6 = (
    *("::/128", "::1/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32"),
    *("2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
)
"""The same, with the addresses that carry an IPv4 address inside (NAT64, 6to4, Teredo): a gateway would unwrap them."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Policy:
    """What the agent's user may reach.

    Args:
        uid: the agent's user.
        ports: loopback ports that it may connect to (brokers, its own gateway), and ranges of them: `8000-8099`.
        resolvers: name servers, reachable on port 53 wherever they are.
        allowed: None for every public address; else these alone.
    """

    uid: int
    ports: Sequence[str] = ()
    resolvers: Collection[Address] = ()
    allowed: Collection[Address] | None = None


def ruleset(policy: Policy, table: str = TABLE) -> str:
    """The whole table. Loading it replaces an older one in one step."""
    lines = [
        # An empty table first, so that there is something to delete.
        f"table inet {table} {{}}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        "  counter denied { }",
        "  chain agent {",
        # Answers to whoever connected to the agent: the front door and the probes do.
        "    ct state established,related accept",
        *_loopback(policy.ports),
        *_resolvers(policy.resolvers),
        *_destinations(policy.allowed),
        "  }",
        "  chain refused {",
        "    counter name denied",
        "    meta l4proto tcp reject with tcp reset",
        "    reject with icmpx type admin-prohibited",
        "  }",
        "  chain output {",
        "    type filter hook output priority filter; policy accept;",
        f"    meta skuid {policy.uid} goto agent",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _loopback(ports: Sequence[str]) -> list[str]:
    if not ports:
        return []
    wanted = ", ".join(dict.fromkeys(ports))
    return [
        f"    ip daddr 127.0.0.0/8 tcp dport {{ {wanted} }} accept",
        f"    ip6 daddr ::1 tcp dport {{ {wanted} }} accept",
    ]


def _resolvers(resolvers: Collection[Address]) -> list[str]:
    lines = []
    for address in sorted(resolvers, key=str):
        family = "ip" if address.version == 4 else "ip6"
        lines += [f"    {family} daddr {address} {protocol} dport 53 accept" for protocol in ("udp", "tcp")]
    return lines


def _destinations(allowed: Collection[Address] | None) -> list[str]:
    refuse = [
        # This machine's own addresses, which may be public ones: the front door listens on them.
        "    fib daddr type local goto refused",
        f"    ip daddr {{ {', '.join(PRIVATE_V4)} }} goto refused",
        f"    ip6 daddr {{ {', '.join(PRIVATE_V6)} }} goto refused",
    ]
    if allowed is None:
        return [*refuse, "    accept"]
    lines = []
    for version, family in ((4, "ip"), (6, "ip6")):
        addresses = sorted(str(address) for address in allowed if address.version == version)
        if addresses:
            lines.append(f"    {family} daddr {{ {', '.join(addresses)} }} accept")
    return [*refuse, *lines, "    goto refused"]
