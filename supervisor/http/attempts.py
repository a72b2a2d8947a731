"""Wrong secrets are counted, for each address and for all together; beyond a measure nobody is heard for a while."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.http.answers import HttpError


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many wrong attempts at once, and one more every `seconds`."""

    attempts: int
    seconds: float


ONE_PEER = Allowance(10, 15.0)
EVERYBODY = Allowance(60, 2.0)
MAX_PEERS = 2048


class Attempts:
    """Token buckets of wrong attempts.

    An IPv6 network of 64 bits counts as one address: whoever has one address there has them all.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        one: Allowance = ONE_PEER,
        everybody: Allowance = EVERYBODY,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self._monotonic = monotonic
        self._one = one
        self._max_peers = max_peers
        self._all = _Bucket(everybody, monotonic())
        self._peers: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def check(self, peer: str) -> None:
        """Raises `HttpError` 429 where the peer, or everybody together, has been wrong too often."""
        now = self._monotonic()
        bucket = self._peers.get(_network(peer))
        wait = max(self._all.wait(now), bucket.wait(now) if bucket else 0.0)
        if wait > 0:
            raise HttpError(
                429,
                "too-many-attempts",
                "Too many wrong attempts.",
                hint=f"Try again in {math.ceil(wait)} s.",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    def wrong(self, peer: str) -> None:
        """Count a wrong attempt."""
        now = self._monotonic()
        network = _network(peer)
        bucket = self._peers.pop(network, None) or _Bucket(self._one, now)
        self._peers[network] = bucket
        bucket.take(now)
        self._all.take(now)
        while len(self._peers) > self._max_peers:
            self._peers.popitem(last=False)


class _Bucket:
    __slots__ = ("_allowance", "_at", "_left")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._allowance = allowance
        self._left = float(allowance.attempts)
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until an attempt is allowed; 0 for now."""
        left = self._refilled(now)
        return 0.0 if left >= 1 else (1 - left) * self._allowance.seconds

    def take(self, now: float) -> None:
        self._left = max(0.0, self._refilled(now) - 1)
        self._at = now

    def _refilled(self, now: float) -> float:
        return min(float(self._allowance.attempts), self._left + (now - self._at) / self._allowance.seconds)


def _network(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
