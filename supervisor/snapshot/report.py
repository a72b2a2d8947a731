"""What a boot found in the bucket, as operators are told of it."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from supervisor.health.problems import Problems
from supervisor.snapshot.engine import BroughtBack


def tell(back: BroughtBack, *, problems: Problems, log: FilteringBoundLogger) -> None:
    """Log what came back; whatever did not is a problem that stays for this life."""
    record = back.record
    log.info(
        "restore.done",
        origin=back.origin,
        sequence=record.sequence if record else None,
        files=record.files if record else (back.imported.files if back.imported else 0),
        fetched=back.fetched_bytes,
        requests=back.requests,
    )
    for sequence, what in back.damaged:
        log.error("restore.damaged", sequence=sequence, error=what)
    if back.damaged:
        numbers = ", ".join(str(sequence) for sequence, _ in back.damaged)
        problems.report(
            "snapshot-damaged",
            f"snapshot {numbers} is damaged: {back.damaged[0][1]}; "
            + (f"snapshot {record.sequence} was restored instead" if record else "the local state is used"),
            "what was said between the two is not there; `moltinit verify --deep` tells what else is affected",
        )
    if back.rescued:
        problems.report(
            "local-state-rescued",
            f"this disk held a state that the history went on without; it is kept as {back.rescued}",
            "look into it with docs/rescue.py, and take from it what is missed",
        )
    if back.imported and back.imported.refused:
        problems.report(
            "import-refused",
            f"{len(back.imported.refused)} objects of the old layout have impossible names, the first: "
            f"{back.imported.refused[0]!r}",
            "they are left in the bucket, untouched",
        )
