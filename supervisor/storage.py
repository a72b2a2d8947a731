"""Is the agent's state kept, and since when: moltworker's answer to it, and what else is known of the bucket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from supervisor.health.bucket import BucketHealth
from supervisor.settings import Settings
from supervisor.snapshot.format import Head
from supervisor.snapshot.repository import newest

R2_SETTINGS = ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "CF_ACCOUNT_ID")

KEPT = "The agent's state is kept in the bucket: it survives restarts and new machines."
NOT_KEPT = (
    "No bucket is configured: the snapshots lie on this machine's own disk, and are lost with it. Set "
    "R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and CF_ACCOUNT_ID, or MOLTINIT_BUCKET_URL."
)


def is_kept(settings: Settings) -> bool:
    """Does the bucket outlive this machine? A directory does where an operator named it, and not as the default."""
    origin = next((row.origin for row in settings.described if row.name == "MOLTINIT_BUCKET_URL"), "")
    return not settings.bucket.url.startswith("file:") or origin not in ("", "default")


def storage_document(
    settings: Settings, *, url: str, head: Head | None, bucket: BucketHealth, pending: bool
) -> dict[str, Any]:
    """The document of `GET /api/admin/storage`.

    Args:
        url: the bucket, without credentials.
        pending: a change is known that no snapshot holds yet.
    """
    kept = is_kept(settings)
    document: dict[str, Any] = {"configured": kept}
    if not kept:
        given = {row.name for row in settings.described if row.value}
        document["missing"] = [name for name in R2_SETTINGS if name not in given]
    last = newest(head) if head else None
    return {
        **document,
        "lastSync": last_sync(last.committed_at if last else None),
        "message": KEPT if kept else NOT_KEPT,
        "url": url,
        "reachable": bucket.reachable,
        "lastError": bucket.last_error,
        "pending": pending,
        "snapshots": len(head.snapshots) if head else 0,
        "sequence": last.sequence if last else None,
        "files": last.files if last else None,
        "bytes": last.bytes if last else None,
    }


def last_sync(committed_at: float | None) -> str | None:
    """Seconds since 1970 in ISO 8601, as moltworker tells the time of its last sync."""
    return None if committed_at is None else datetime.fromtimestamp(committed_at, UTC).isoformat(timespec="seconds")
