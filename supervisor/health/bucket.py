"""How the bucket does, from the outcome of every request: metrics, and a problem while it does not answer."""

from __future__ import annotations

from supervisor.health.metrics import Metrics, Outcome
from supervisor.health.problems import Problems
from supervisor.store.retry import Attempt

FAILURES_IN_A_ROW = 2
"""One lost request is the network's daily life; what fails twice in a row is worth an operator's look."""

CODE = "bucket"

_WRITES = ("put", "put_if_absent", "replace")
_OUTCOMES: dict[str, Outcome] = {
    "ok": "ok",
    "object-missing": "missing",
    "precondition-failed": "conflict",
    "bucket-refused": "refused",
    "bucket-unavailable": "unavailable",
}


class BucketHealth:
    """Observes a retrying store."""

    def __init__(self, problems: Problems, metrics: Metrics) -> None:
        self._problems = problems
        self._metrics = metrics
        self._failures = 0
        self.reachable: bool | None = None
        self.last_error: str | None = None

    def observe(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        outcome = _OUTCOMES.get(attempt.outcome, "error")
        sent = attempt.size if attempt.operation in _WRITES else 0
        for number in range(attempt.requests):
            self._metrics.bucket_request(
                attempt.operation,
                attempt.price,
                outcome,
                sent_bytes=sent if not number else 0,
                received_bytes=attempt.size - sent if not number else 0,
            )
        if outcome in ("ok", "missing", "conflict"):
            self._failures = 0
            self.reachable = True
            self._problems.clear(CODE)
            return
        self._failures += 1
        self.reachable = False
        self.last_error = attempt.error or attempt.outcome
        if self._failures >= FAILURES_IN_A_ROW or outcome == "refused":
            self._problems.report(CODE, self.last_error, HINTS.get(outcome, ""))


HINTS: dict[str, str] = {
    "unavailable": "the agent works on; what changes is saved as soon as the bucket answers again",
    "refused": "check the bucket's keys and their rights: read, write, list and delete",
    "error": "check MOLTINIT_BUCKET_URL and MOLTINIT_S3_ENDPOINT_URL; `moltinit doctor` tells more",
}
"""What to do, by outcome."""
