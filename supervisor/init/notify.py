"""Telling a service manager how it goes (sd_notify(3)): ready, stopping, alive, and that a phase may take longer.

Nothing happens where nobody listens: the platform's own VMs do not, systemd and podman do.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

SECOND = 1_000_000
"""Microseconds, the protocol's unit."""


class Notifier:
    """Datagrams to `$NOTIFY_SOCKET`.

    Args:
        address: a path, or a name in the abstract namespace when it begins with `@`; empty: nobody listens.
        watchdog_seconds: how often at least the manager wants to hear of us; 0: it does not wait.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None

    @classmethod
    def take_from(cls, environment: MutableMapping[str, str], pid: int) -> Notifier:
        """Out of the environment, where it is not left for children, who would speak in our name.

        `WATCHDOG_PID` names whom the watchdog is meant for (sd_watchdog_enabled(3)).
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        meant_for = environment.pop("WATCHDOG_PID", "") or str(pid)
        watched = address and microseconds.isdecimal() and meant_for == str(pid)
        return cls(address, int(microseconds) / SECOND if watched else 0.0)

    def __bool__(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        """The service is up."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service goes down."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for people."""
        self._send(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """The watchdog's keep-alive."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes up to so much longer, from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * SECOND)}")

    def close(self) -> None:
        """Give back the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if not self._address:
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            # A manager that is gone, or whose queue is full, must not hold up the service; it acts on silence itself.
            return
