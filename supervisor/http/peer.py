"""Who is at the other end of a loopback connection: the user whose process made the socket.

On loopback, mode `none` lets anybody in, and a token may be known to the agent. What is for operators is refused to
the agent's own user all the same: an injected agent would otherwise restore, forget or read snapshots by itself.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from weakref import WeakKeyDictionary

from aiohttp import web

from supervisor.http.answers import HttpError
from supervisor.http.auth import Access

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
ANY_STATE = 0xFFFFFFFF
NO_COOKIE = b"\xff" * 8
ANSWER_BYTES = 8192
WAIT_SECONDS = 1.0

ELSEWHERE = -1

Address = tuple[str, int]


class NotTheAgent:
    """Refuses operators' paths to connections of one user.

    Args:
        uid: the agent's user, or None where it cannot be told from others.
    """

    def __init__(self, uid: int | None) -> None:
        self._uid = uid
        self._known: WeakKeyDictionary[object, int | None] = WeakKeyDictionary()

    def check(self, request: web.Request, access: Access) -> None:
        """Raises `HttpError` 403 for the agent's user, and for a peer on this machine that cannot be named: it may
        have hung up to become nobody."""
        if self._uid is None or access is not Access.OPERATOR:
            return
        uid = self._peer(request.transport)
        if uid is None:
            raise HttpError(
                403,
                "peer-unknown",
                "It cannot be told which user of this machine is asking.",
                hint="Keep the connection open until the answer is there.",
            )
        if uid == self._uid:
            raise HttpError(
                403,
                "agent-refused",
                "This is for operators; the agent's own user is not let in, whatever it presents.",
                hint="Ask as another user of this machine, or from outside.",
            )

    def _peer(self, transport: asyncio.Transport | None) -> int | None:
        """The user at the other end: one of this machine, `ELSEWHERE`, or None where nobody is there any more."""
        peer = transport.get_extra_info("peername") if transport is not None else None
        own = transport.get_extra_info("sockname") if transport is not None else None
        if transport is None or not peer or not own:
            return None
        scope = peer[3] if len(peer) == 4 else 0
        if not is_local(peer[0], own[0], scope):
            return ELSEWHERE
        if transport not in self._known:
            self._known[transport] = owner(peer[:2], own[:2], scope)
        return self._known[transport]


def is_local(peer: str, own: str, scope: int = 0) -> bool:
    """Is it a connection of this machine with itself? A client may take any address of the machine for its own end,
    whatever address it connects to.

    Args:
        scope: the interface of a link-local `peer`.
    """
    return peer == own or _plain(peer).is_loopback or _plain(own).is_loopback or _is_ours(peer, scope)


def owner(peer: Address, own: Address, scope: int = 0) -> int | None:
    """The user id of the process that holds the socket at `peer`, connected with `own`; None where there is no such
    socket (any more). `scope` as for `is_local`."""
    try:
        return _ask_kernel(peer, own, scope)
    except OSError:
        return _look_up(peer, own)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    plain = ipaddress.ip_address(address.partition("%")[0])
    return plain.ipv4_mapped or plain if isinstance(plain, ipaddress.IPv6Address) else plain


def _is_ours(address: str, scope: int) -> bool:
    """Can it be bound? Asked each time: addresses come and go. What cannot be found out counts as ours: such a peer is
    asked for its user, and refused where it has none."""
    plain = _plain(address)
    four = plain.version == 4
    try:
        with socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(plain), 0) if four else (str(plain), 0, 0, scope if plain.is_link_local else 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def _ask_kernel(peer: Address, own: Address, scope: int = 0) -> int | None:
    """sock_diag(7): one socket by its addresses. A socket that nobody holds any more has inode 0, and its user id
    means nothing."""
    for family in (socket.AF_INET, socket.AF_INET6):
        packed = [_packed(address, family) for address in (peer[0], own[0])]
        if packed[0] is None or packed[1] is None:
            continue
        identity = struct.pack("!HH", peer[1], own[1]) + packed[0] + packed[1] + struct.pack("=I", scope) + NO_COOKIE
        request = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, ANY_STATE) + identity
        header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(WAIT_SECONDS)
            kernel.send(header + request)
            answer = kernel.recv(ANSWER_BYTES)
        kind = struct.unpack_from("=IH", answer)[1]
        if kind == NLMSG_ERROR:
            number = -struct.unpack_from("=i", answer, 16)[0]
            if number == 2:  # ENOENT: not in this family
                continue
            raise OSError(number, os.strerror(number))
        # inet_diag_msg: 4 bytes, the identity (48), expires, rqueue, wqueue, uid, inode
        uid, inode = struct.unpack_from("=II", answer, 16 + 4 + 48 + 12)
        return uid if inode else None
    return None


def _packed(address: str, family: int) -> bytes | None:
    plain = _plain(address)
    if plain.version == 4:
        return plain.packed + bytes(12) if family == socket.AF_INET else bytes(10) + b"\xff\xff" + plain.packed
    return plain.packed if family == socket.AF_INET6 else None


def _look_up(peer: Address, own: Address) -> int | None:
    """The same from /proc/net/tcp and tcp6 (proc_net(5)), where there is no sock_diag."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        wanted = [_hexadecimal(address, family) for address in (peer, own)]
        if None in wanted:
            continue
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            continue
        for row in rows:
            if row[1:3] == wanted:
                return int(row[7]) if row[9] != "0" else None
    return None


def _hexadecimal(address: Address, family: int) -> str | None:
    packed = _packed(address[0], family)
    if packed is None:
        return None
    packed = packed[:4] if family == socket.AF_INET else packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
