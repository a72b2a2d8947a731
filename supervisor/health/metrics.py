"""What `/metrics` counts, in a registry of its own; callers speak of snapshots, not of Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from supervisor.health.resources import Resources

if TYPE_CHECKING:
    from prometheus_client import Counter
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SNAPSHOT_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

Outcome = Literal["ok", "missing", "conflict", "refused", "unavailable", "error"]
RequestClass = Literal["A", "B", "free"]
"""How R2 bills a request: A changes or lists, B reads, deletes are free."""


class Metrics:
    """The daemon's metrics. Made after the port is bound: prometheus_client takes a while to import.

    Args:
        problems: the codes of the problems that are open.
        loop_lag_seconds: the worst lag of the event loop in the last minute.
        resources: a look at the machine's memory and disk.
        resident_bytes: the memory of this process.
        time: seconds since 1970.
    """

    def __init__(
        self,
        *,
        problems: Callable[[], Iterable[str]],
        loop_lag_seconds: Callable[[], float],
        resources: Callable[[], Resources] = Resources,
        resident_bytes: Callable[[], int] | None = None,
        time: Callable[[], float] = time.time,
    ) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"moltinit_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"moltinit_{name}", text, labels, registry=registry)

        self._phase_seconds = counter("phase_seconds", "Seconds spent in each phase of this boot.", "phase")
        self._transitions = counter("transitions", "Changes of phase.", "source", "target")
        self._taken = counter("snapshots_taken", "Snapshots committed.", "reason")
        self._failed = counter("snapshots_failed", "Snapshots that were not committed.", "reason")
        self._duration = Histogram(
            "moltinit_snapshot_duration_seconds",
            "From the start of a snapshot to its commit.",
            buckets=SNAPSHOT_BUCKETS_SECONDS,
            registry=registry,
        )
        self._read = counter("snapshot_read_bytes", "Bytes read from the agent's state by snapshots.")
        self._uploaded = counter("snapshot_uploaded_bytes", "Bytes uploaded by snapshots.")
        self._last_time = gauge("last_snapshot_timestamp_seconds", "When the newest snapshot was committed.")
        self._last_sequence = gauge("last_snapshot_sequence", "The sequence number of the newest snapshot.")
        self._requests = counter("bucket_requests", "Requests to the bucket.", "operation", "class", "outcome")
        self._bucket_bytes = counter("bucket_bytes", "Bytes to (up) and from (down) the bucket.", "direction")
        self._restarts = counter("agent_restarts", "Starts of the agent after its first one.")
        self._up = gauge("agent_up", "1 while the agent answers its probe.")
        self._denied = counter("egress_denied_packets", "Packets of the agent that the egress filter refused.")
        self._http_requests = counter("http_requests", "Requests to the front door.", "route", "status")
        self._websockets = gauge("websockets", "WebSockets open through the front door.")
        self._committed_at: float | None = None
        self._by_class = {"A": 0, "B": 0, "free": 0}
        gauge("event_loop_lag_seconds", "The worst lag of the event loop in the last minute.").set_function(
            loop_lag_seconds
        )
        resident = resident_bytes or own_resident_bytes
        gauge("resident_memory_bytes", "Resident memory of the daemon.").set_function(lambda: float(resident()))
        registry.register(_Reading(lambda: self._read_now(problems(), resources(), time())))

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A further counter, `moltinit_<name>_total`; whoever asks for it counts, and bounds what its labels may be."""
        from prometheus_client import Counter

        return Counter(f"moltinit_{name}", text, labels, registry=self._registry)

    def phase_ended(self, phase: str, seconds: float, *, target: str) -> None:
        """The boot went from `phase`, after `seconds` in it, to `target`."""
        self._phase_seconds.labels(phase).inc(seconds)
        self._transitions.labels(phase, target).inc()

    def snapshot_taken(
        self,
        reason: str,
        *,
        seconds: float,
        read_bytes: int,
        uploaded_bytes: int,
        sequence: int,
        committed_at: float,
    ) -> None:
        """A snapshot was committed; `reason` is one of the daemon's own, never free text."""
        self._taken.labels(reason).inc()
        self._duration.observe(seconds)
        self._read.inc(read_bytes)
        self._uploaded.inc(uploaded_bytes)
        self.newest_snapshot(sequence, committed_at)

    def newest_snapshot(self, sequence: int, committed_at: float) -> None:
        """The newest snapshot there is, for instance the one that was restored; seconds since 1970."""
        self._last_sequence.set(sequence)
        self._last_time.set(committed_at)
        self._committed_at = committed_at

    def snapshot_failed(self, reason: str) -> None:
        """A snapshot was begun and not committed."""
        self._failed.labels(reason).inc()

    def bucket_request(
        self,
        operation: str,
        request_class: RequestClass,
        outcome: Outcome,
        *,
        sent_bytes: int = 0,
        received_bytes: int = 0,
    ) -> None:
        """A request to the bucket came to an end."""
        self._requests.labels(operation, request_class, outcome).inc()
        self._by_class[request_class] += 1
        if sent_bytes:
            self._bucket_bytes.labels("up").inc(sent_bytes)
        if received_bytes:
            self._bucket_bytes.labels("down").inc(received_bytes)

    def requests_by_class(self) -> dict[str, int]:
        """Requests to the bucket so far, by `RequestClass`."""
        return dict(self._by_class)

    def http_request(self, route: str, status: int) -> None:
        """The front door has answered. `route` is one of a few, never a path; of the status only its class counts."""
        self._http_requests.labels(route, f"{status // 100}xx").inc()

    @contextmanager
    def websocket(self) -> Iterator[None]:
        """A WebSocket is open."""
        self._websockets.inc()
        try:
            yield
        finally:
            self._websockets.dec()

    def agent_restarted(self) -> None:
        """The agent is being started again."""
        self._restarts.inc()

    def agent_up(self, up: bool) -> None:
        """What the agent's probe said last."""
        self._up.set(1 if up else 0)

    def egress_denied(self, packets: int) -> None:
        """The egress filter refused so many packets of the agent."""
        self._denied.inc(packets)

    def _read_now(self, problems: Iterable[str], resources: Resources, now: float) -> Iterator[Metric]:
        """What is not counted but looked at when somebody asks; what is not known is left out, as is the custom."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        codes = tuple(problems)
        yield _single("problems", "Problems open now.", len(codes))
        by_code = GaugeMetricFamily("moltinit_problem", "1 while a problem of this code is open.", labels=("code",))
        for code in codes:
            by_code.add_metric((code,), 1.0)
        yield by_code
        if self._committed_at is not None:
            age = max(0.0, now - self._committed_at)
            yield _single("last_snapshot_age_seconds", "Seconds since the newest snapshot was committed.", age)
        for name, usage in (("memory", resources.memory), ("disk", resources.disk)):
            if usage is not None:
                yield _single(f"{name}_used_bytes", f"{_WHOSE[name]}: in use.", usage.used)
                yield _single(f"{name}_total_bytes", f"{_WHOSE[name]}: all there is.", usage.total)
                yield _single(f"{name}_free_bytes", f"{_WHOSE[name]}: free.", usage.free)

    def render(self) -> bytes:
        """All metrics in the text format 0.0.4 (`CONTENT_TYPE`)."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


_WHOSE = {"memory": "Memory of the cgroup, or of the machine", "disk": "Disk with the agent's state"}


class _Reading:
    """A collector in the sense of prometheus_client."""

    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self.collect = read


def _single(name: str, text: str, value: float) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    return GaugeMetricFamily(f"moltinit_{name}", text, value=float(value))


def own_resident_bytes() -> int:
    """Resident memory of this process in bytes (proc_pid_statm(5): the second field, in pages)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
