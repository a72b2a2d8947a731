"""From a bucket's URL to a store that retries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

from supervisor.clock import Clock
from supervisor.errors import SettingsError
from supervisor.store.credentials import (
    Credentials,
    CredentialsProvider,
    Fixed,
    FromApi,
    Minter,
    Scope,
    SignedHere,
    Temporary,
)
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
    temporary: str = "keys"
    """R2: `signed` or `api` for credentials that end by themselves (`credentials.py`); `keys` uses the keys."""
    account: str = ""
    api_token: str | None = field(default=None, repr=False)


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
    return RetryingStore(_driver(location, clock), clock, random or Random(), policy, observer=observe)


def _driver(location: BucketLocation, clock: Clock) -> Store:
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
            credentials=_credentials(location, clock),
        )
    raise SettingsError(f"{location.url!r} is no bucket", hint="write it as s3://bucket[/prefix] or file:///directory")


def _credentials(location: BucketLocation, clock: Clock) -> CredentialsProvider:
    key_id, secret = location.access_key_id or "", location.secret_access_key or ""
    if location.temporary == "keys":
        return Fixed(Credentials(key_id, secret, location.session_token or ""))
    parts = urlsplit(location.url)
    host = urlsplit(location.endpoint_url or "").netloc
    scope = Scope(location.account, parts.netloc, parts.path.strip("/"), host)
    minter: Minter
    if location.temporary == "signed":
        minter = SignedHere(scope, parent_key_id=key_id, parent_secret=secret)
    else:
        minter = FromApi(scope, parent_key_id=key_id, api_token=location.api_token or "")
    return Temporary(minter, clock)
