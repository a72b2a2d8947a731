"""From a bucket's URL to a store that retries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

from supervisor.clock import Clock
from supervisor.errors import SettingsError
from supervisor.store.protocol import Store
from supervisor.store.retry import Attempt, RetryingStore, RetryPolicy


@dataclass(frozen=True, slots=True)
class BucketLocation:
    """Where a bucket is (`s3://bucket/prefix`, `file:///directory`) and what opens it."""

    url: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


def open_store(
    location: BucketLocation,
    *,
    clock: Clock,
    random: Random | None = None,
    observe: Callable[[Attempt], None] | None = None,
    policy: RetryPolicy | None = None,
) -> RetryingStore:
    """A store for the location; no request is made yet. Raises `SettingsError` for a URL of no known kind."""
    if policy is None:
        policy = RetryPolicy(write_interval=0.0) if location.url.startswith("file:") else RetryPolicy()
    return RetryingStore(_driver(location), clock, random or Random(), policy, observer=observe)


def _driver(location: BucketLocation) -> Store:
    parts = urlsplit(location.url)
    if parts.scheme == "file" and parts.path:
        from supervisor.store.file import FileStore

        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from supervisor.store.s3 import S3Store

        return S3Store(
            parts.netloc,
            parts.path.strip("/"),
            endpoint_url=location.endpoint_url or "",
            region=location.region or "auto",
            access_key_id=location.access_key_id or "",
            secret_access_key=location.secret_access_key or "",
            session_token=location.session_token or "",
        )
    raise SettingsError(f"{location.url!r} is no bucket", hint="write it as s3://bucket[/prefix] or file:///directory")
