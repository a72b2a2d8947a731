"""Parts that the daemon and the commands both make from settings: the bucket, the agent runtime, the engine."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_runtime.contract import AgentRuntime, AgentSettings, Brokered, RuntimeFault
from agent_runtime.registry import make_runtime
from supervisor.clock import Clock, SystemClock
from supervisor.errors import AgentError
from supervisor.init.cell.rights import Rights
from supervisor.settings import Settings
from supervisor.snapshot.claim import Identity
from supervisor.snapshot.engine import Engine
from supervisor.snapshot.local import LocalDisk
from supervisor.snapshot.repository import Repository
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.store.open import BucketLocation, open_store
from supervisor.store.protocol import Store

ID_BYTES = 8
"""Random bytes of an id: 64 bits, unique among the few million objects that a bucket will ever hold."""


def new_id() -> str:
    """A random id, as text."""
    return secrets.token_hex(ID_BYTES)


def new_secret() -> str:
    """A secret of this life: 256 random bits, as text."""
    return secrets.token_urlsafe(32)


def bucket_location(settings: Settings) -> BucketLocation:
    """Where the bucket is, with the keys in the clear."""
    bucket = settings.bucket
    return BucketLocation(
        url=bucket.url,
        endpoint_url=bucket.endpoint_url,
        region=bucket.region,
        access_key_id=bucket.access_key_id,
        secret_access_key=bucket.secret_access_key.reveal() if bucket.secret_access_key else None,
        session_token=bucket.session_token.reveal() if bucket.session_token else None,
        temporary=bucket.temporary,
        account=bucket.account,
        api_token=bucket.api_token.reveal() if bucket.api_token else None,
    )


def connect(settings: Settings) -> tuple[Store, Repository]:
    """The bucket and the repository in it, for reading."""
    store = open_store(bucket_location(settings), clock=SystemClock())
    return store, Repository(store, SystemClock(), new_id)


def agent_runtime(
    settings: Settings, broker: Brokered | None = None, *, uid: int | None = None, gid: int | None = None
) -> AgentRuntime:
    """The runtime of the configured agent, which is going to run as user `uid` of group `gid`; without a broker it is
    good for everything but a start. Raises `AgentError`."""
    try:
        return make_runtime(
            settings.agent,
            AgentSettings(
                home=settings.agent_home,
                scratch=settings.home / "scratch" / "agent",
                port=settings.agent_port,
                token=settings.gateway_token.reveal() if settings.gateway_token else new_secret(),
                variables={name: value.reveal() for name, value in settings.agent_variables.items()},
                program=settings.openclaw_bin,
                public_origins=settings.agent_origins,
                operators=("operator", *settings.operators),
                all_operate=settings.auth == "access" and not settings.operators,
                uid=uid,
                gid=gid,
                broker=broker,
            ),
        )
    except RuntimeFault as fault:
        raise AgentError(fault.message, hint=fault.hint) from fault


def agent_version(runtime: AgentRuntime) -> str:
    """The program's version; empty where there is no program (starting it will say so)."""
    try:
        return runtime.version()
    except RuntimeFault:
        return ""


def skip_rules(settings: Settings, runtime: AgentRuntime) -> SkipRules:
    """The agent's rules, then the operator's. Raises `SettingsError`."""
    return SkipRules([*runtime.layout.skip, *settings.exclude])


def make_engine(
    settings: Settings,
    *,
    runtime: AgentRuntime,
    version: str,
    store: Store,
    disk: LocalDisk,
    rules: SkipRules,
    clock: Clock,
    retention: Retention | None = None,
    rights: Rights | None = None,
    furnish: Callable[[], object] | None = None,
    scratch: Path | None = None,
    usage: Callable[[], dict[str, Any] | None] = lambda: None,
) -> Engine:
    """The engine on this disk's agent home, which works there with these `rights`."""
    return Engine(
        repository=Repository(store, clock, new_id, usage),
        store=store,
        disk=disk,
        root=settings.agent_home,
        rules=rules,
        classes=Classes(runtime.layout.first),
        identity=Identity(
            boot=new_id(), home=disk.id, host=socket.gethostname(), agent=runtime.name, agent_version=version
        ),
        clock=clock,
        new_id=new_id,
        retention=retention,
        imports=runtime.layout.imports,
        volatile_tables=runtime.layout.volatile_tables,
        rights=rights,
        furnish=furnish,
        scratch=scratch,
    )
