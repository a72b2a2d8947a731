"""What the rest of the program sees of the settings: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where the bucket is: `s3://bucket/prefix` or `file:///directory`. `endpoint_url` and `region` are for s3."""

    url: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    temporary: str = "keys"
    account: str = ""
    api_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """The back door. `keys` and `variables` are those of providers and browser; `budget` is by `(unit, window)`."""

    port: int
    insist: bool
    keys: Mapping[str, Secret] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    keys_file: Path | None = None
    budget: Mapping[tuple[str, str], float] = field(default_factory=dict)
    budget_soft: float = 0.8
    prices: Path | None = None
    browser_sessions: int = 8
    browser_idle: float = 600.0


@dataclass(frozen=True, slots=True)
class Described:
    """One effective setting as `moltinit config` shows it; `value` is masked where it is a secret."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Durations are seconds. docs/settings.md says what each is for."""

    home: Path
    bucket: BucketSettings
    listen_host: str
    listen_port: int
    auth: str
    operator_token: Secret | None
    gateway_token: Secret | None
    access_team_domain: str | None
    access_audiences: tuple[str, ...]
    operators: tuple[str, ...]
    public_origins: tuple[str, ...]
    public_paths: tuple[str, ...]
    agent: str
    agent_home: Path
    agent_port: int
    openclaw_bin: Path | None
    agent_variables: Mapping[str, Secret]
    agent_user: str | None
    agent_paths: tuple[tuple[Path, bool], ...]
    agent_max_processes: int
    agent_max_files: int
    agent_max_file_size: int | None
    egress: tuple[str, ...]
    egress_ports: tuple[str, ...]
    broker: BrokerSettings
    stop_grace: float
    start_timeout: float
    snapshot_quiet: float
    snapshot_max_delay: float
    consistent_interval: float
    exclude: tuple[str, ...]
    log_format: str
    log_level: str
    config_file: Path | None
    dev_mode: bool
    described: tuple[Described, ...] = field(default=(), repr=False)

    @property
    def agent_origins(self) -> tuple[str, ...]:
        """Origins of the agent's page: the public ones, and this machine's own; empty where people may come under names
        that nobody has told."""
        own = (f"http://localhost:{self.listen_port}", f"http://127.0.0.1:{self.listen_port}")
        if self.public_origins:
            return (*self.public_origins, *own)
        return own if self.listen_host in ("localhost", "127.0.0.1") else ()

    def secrets(self) -> tuple[str, ...]:
        """Every secret value, for masking them wherever text leaves the process."""
        own = (
            self.bucket.secret_access_key,
            self.bucket.session_token,
            self.bucket.api_token,
            self.operator_token,
            self.gateway_token,
        )
        values = [
            secret.reveal()
            for secret in (*own, *self.agent_variables.values(), *self.broker.keys.values())
            if secret is not None
        ]
        return tuple(value for value in values if len(value) >= 6)
