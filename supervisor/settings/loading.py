"""From the environment (and a TOML file) to `Settings`. Everything that is wrong is said at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from supervisor.errors import SettingsError
from supervisor.settings import options
from supervisor.settings.model import BrokerSettings, BucketSettings, Described, Settings
from supervisor.settings.options import Option
from supervisor.settings.secret import Secret

IMAGE_MARK = Path("/etc/moltinit/image")
"""Exists in the image that moltinit is shipped in: there, the front door listens on all addresses."""

_NAMES = {option.name: option for option in options.ALL}
_KEYS = {option.key: option for option in options.ALL}


@dataclass(slots=True)
class _Found:
    """What was given for one option, read and as text, and where."""

    value: Any
    text: str
    origin: str


class _Reader:
    """Collects values and problems."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.found: dict[str, _Found] = {}

    def take(self, option: Option, text: str, origin: str) -> None:
        """The first origin to give a value wins."""
        if not text or option.name in self.found:
            return
        try:
            self.found[option.name] = _Found(option.read(text), text, origin)
        except ValueError as error:
            shown = "the value given" if option.secret else repr(text)
            self.problems.append(f"{option.name} = {shown} ({origin}): {error}")

    def get(self, *names: str) -> Any:
        """The value of the first of `names` that is set, else None."""
        return next((self.found[name].value for name in names if name in self.found), None)

    def text(self, name: str) -> str | None:
        """As `get`, for texts."""
        value: str | None = self.get(name)
        return value

    def secret(self, *names: str) -> Secret | None:
        """As `get`, wrapped."""
        value = self.get(*names)
        return None if value is None else Secret(value)


def load(
    environ: Mapping[str, str],
    *,
    cwd: Path,
    is_root: bool,
    in_image: bool | None = None,
) -> Settings:
    """The settings of this process. Raises `SettingsError` that lists every problem.

    Args:
        environ: the environment; empty values count as not set.
        cwd: what relative paths count from.
        is_root: decides where local data goes by default.
        in_image: decides where the front door listens by default; None looks.
    """
    reader = _Reader()
    for name in sorted(environ):
        if name.startswith("MOLTINIT_") and name not in _NAMES:
            reader.problems.append(_unknown(name, list(_NAMES)))
    for option in options.ALL:
        reader.take(option, environ.get(option.name, "").strip(), f"environment {option.name}")
    _read_file(reader, cwd)
    _check_groups(reader)
    settings = _build(reader, cwd, is_root, IMAGE_MARK.exists() if in_image is None else in_image)
    if reader.problems:
        count = len(reader.problems)
        raise SettingsError(
            (f"{count} settings are wrong:\n  " if count > 1 else "") + "\n  ".join(reader.problems),
            hint="docs/settings.md lists all settings; `moltinit config` shows those in force",
        )
    return settings


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else "")


def _read_file(reader: _Reader, cwd: Path) -> None:
    name = reader.text("MOLTINIT_CONFIG")
    if name is None:
        return
    import tomllib

    path = cwd / name
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reader.problems.append(f"MOLTINIT_CONFIG = {str(path)!r}: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reader.problems.append(f"MOLTINIT_CONFIG = {str(path)!r} is no TOML: {error}")
        return
    for key, value in document.items():
        option = _KEYS.get(key)
        if option is None or option.name == "MOLTINIT_CONFIG":
            reader.problems.append(f"{path}: " + _unknown(key, list(_KEYS)))
        elif isinstance(value, dict):
            reader.problems.append(f"{path}: {key} is a table; settings are plain values")
        else:
            reader.take(option, _as_text(value), f"file {path}")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return str(value)


def _check_groups(reader: _Reader) -> None:
    # With credentials from the API the parent's secret may stay elsewhere.
    needless = {"R2_SECRET_ACCESS_KEY"} if "R2_API_TOKEN" in reader.found else set()
    for names, what in options.TOGETHER:
        missing = [name for name in names if name not in reader.found and name not in needless]
        given = [name for name in names if name in reader.found]
        # CF_ACCOUNT_ID alone is no wish for R2: moltworker sets it for other ends, too.
        if missing and given and given != ["CF_ACCOUNT_ID"]:
            reader.problems.append(
                f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} set but {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not: {what} needs all of them, or none"
            )


def _build(reader: _Reader, cwd: Path, is_root: bool, in_image: bool) -> Settings:
    home = _path(reader, "MOLTINIT_HOME", cwd) or (Path("/var/lib/moltinit") if is_root else cwd / ".moltinit")
    listen = reader.get("MOLTINIT_LISTEN") or (("0.0.0.0", 8080) if in_image else ("127.0.0.1", 8080))
    gateway_token = reader.secret("OPENCLAW_GATEWAY_TOKEN", "MOLTBOT_GATEWAY_TOKEN")
    explicit_token = reader.secret("MOLTINIT_OPERATOR_TOKEN")
    auth = _auth(reader, listen[0], explicit_token or gateway_token)
    # Beside Access a token counts only where it was meant to: moltworker hands on the gateway's in any case.
    # Nor one that the agent knows, whatever it is called.
    known_to_agent = explicit_token is not None and explicit_token == gateway_token
    beside_access = None if known_to_agent else explicit_token
    operator_token = beside_access if auth == "access" else explicit_token or gateway_token
    worker_url = reader.text("WORKER_URL")
    agent_variables = {
        option.name: Secret(reader.found[option.name].text) for option in options.AGENT if option.name in reader.found
    }
    quiet = reader.get("MOLTINIT_SNAPSHOT_QUIET") or 0.5
    longest = reader.get("MOLTINIT_SNAPSHOT_MAX_DELAY") or 1.5
    if longest < quiet:
        reader.problems.append(
            f"MOLTINIT_SNAPSHOT_MAX_DELAY ({longest:g} s) is shorter than MOLTINIT_SNAPSHOT_QUIET ({quiet:g} s)"
        )
    settings = Settings(
        home=home,
        bucket=_bucket(reader, home),
        listen_host=listen[0],
        listen_port=listen[1],
        auth=auth,
        operator_token=operator_token,
        gateway_token=gateway_token,
        access_team_domain=reader.text("CF_ACCESS_TEAM_DOMAIN"),
        access_audiences=reader.get("CF_ACCESS_AUD") or (),
        operators=reader.get("MOLTINIT_OPERATORS") or (),
        public_origins=(_origin(worker_url),) if worker_url else (),
        public_paths=reader.get("MOLTINIT_PUBLIC_PATHS") or (),
        agent=reader.text("MOLTINIT_AGENT") or "openclaw",
        agent_home=_path(reader, "MOLTINIT_AGENT_HOME", cwd) or home / "agent",
        agent_port=reader.get("MOLTINIT_AGENT_PORT") or 18789,
        openclaw_bin=_path(reader, "MOLTINIT_OPENCLAW_BIN", cwd),
        agent_variables=agent_variables,
        agent_user=reader.text("MOLTINIT_AGENT_USER"),
        agent_paths=tuple((Path(path), writes) for path, writes in reader.get("MOLTINIT_AGENT_PATHS") or ()),
        agent_max_processes=reader.get("MOLTINIT_AGENT_MAX_PROCESSES") or 2048,
        agent_max_files=reader.get("MOLTINIT_AGENT_MAX_FILES") or 65536,
        agent_max_file_size=reader.get("MOLTINIT_AGENT_MAX_FILE_SIZE"),
        egress=reader.get("MOLTINIT_EGRESS") or (("public",) if in_image or os.getpid() == 1 else ("open",)),
        egress_ports=reader.get("MOLTINIT_EGRESS_PORTS") or (),
        broker=_broker(reader, cwd),
        stop_grace=reader.get("MOLTINIT_STOP_GRACE") or 25.0,
        start_timeout=reader.get("MOLTINIT_START_TIMEOUT") or 180.0,
        snapshot_quiet=quiet,
        snapshot_max_delay=longest,
        consistent_interval=reader.get("MOLTINIT_CONSISTENT_INTERVAL") or 900.0,
        exclude=reader.get("MOLTINIT_EXCLUDE") or (),
        log_format=reader.text("MOLTINIT_LOG_FORMAT") or "auto",
        log_level=reader.text("MOLTINIT_LOG_LEVEL") or "info",
        config_file=_path(reader, "MOLTINIT_CONFIG", cwd),
        dev_mode=bool(reader.get("OPENCLAW_DEV_MODE", "DEV_MODE")),
    )
    if settings.agent_home in (home, *home.parents):
        reader.problems.append(
            f"MOLTINIT_AGENT_HOME ({settings.agent_home}) holds MOLTINIT_HOME ({home}): the agent would see, and "
            "save, the daemon's own files"
        )
    return replace(settings, described=_describe(reader, settings))


def _path(reader: _Reader, name: str, cwd: Path) -> Path | None:
    text = reader.text(name)
    return Path(os.path.normpath(cwd / Path(text).expanduser())) if text else None


def _origin(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _bucket(reader: _Reader, home: Path) -> BucketSettings:
    url, endpoint = reader.text("MOLTINIT_BUCKET_URL"), reader.text("MOLTINIT_S3_ENDPOINT_URL")
    temporary = reader.text("MOLTINIT_R2_CREDENTIALS") or "keys"
    secret = "R2_API_TOKEN" if temporary == "api" else "R2_SECRET_ACCESS_KEY"
    r2 = all(name in reader.found for name in ("R2_ACCESS_KEY_ID", secret, "CF_ACCOUNT_ID"))
    if temporary != "keys" and not r2:
        reader.problems.append(
            f"MOLTINIT_R2_CREDENTIALS = {temporary!r} needs R2_ACCESS_KEY_ID, {secret} and CF_ACCOUNT_ID"
        )
    if url is None:
        url = f"s3://{reader.text('R2_BUCKET_NAME') or 'moltbot-data'}" if r2 else f"file://{home / 'bucket'}"
    if not url.startswith("s3:"):
        return BucketSettings(url)
    if endpoint is None and r2:
        endpoint = f"https://{reader.text('CF_ACCOUNT_ID')}.r2.cloudflarestorage.com"
    access = reader.text("R2_ACCESS_KEY_ID") if r2 else reader.text("AWS_ACCESS_KEY_ID")
    if access is None:
        reader.problems.append(
            f"MOLTINIT_BUCKET_URL = {url!r} needs keys: set R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and "
            "CF_ACCOUNT_ID, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return BucketSettings(
        url=url,
        endpoint_url=endpoint,
        region=reader.text("AWS_REGION") or "auto",
        access_key_id=access,
        secret_access_key=reader.secret("R2_SECRET_ACCESS_KEY" if r2 else "AWS_SECRET_ACCESS_KEY"),
        session_token=None if r2 else reader.secret("AWS_SESSION_TOKEN"),
        temporary=temporary if r2 else "keys",
        account=reader.text("CF_ACCOUNT_ID") or "",
        api_token=reader.secret("R2_API_TOKEN"),
    )


def _broker(reader: _Reader, cwd: Path) -> BrokerSettings:
    found = reader.found
    mine = [option for option in options.ALL if option.broker and option.name in found]
    variables = {option.name: found[option.name].text for option in mine if not option.secret}
    # The account and the Worker belong to others as well.
    variables |= {name: reader.get(name) for name in ("CF_ACCOUNT_ID", "WORKER_URL") if name in found}
    budget = {
        (unit, window): amount
        for unit in ("requests", "tokens", "dollars")
        for window in ("minute", "day", "month")
        if (amount := reader.get(f"MOLTINIT_BUDGET_{unit.upper()}_PER_{window.upper()}")) is not None
    }
    _check_broker(reader, budget)
    return BrokerSettings(
        port=reader.get("MOLTINIT_BROKER_PORT") or min((reader.get("MOLTINIT_AGENT_PORT") or 18789) + 1, 65535),
        insist="MOLTINIT_BROKER_PORT" in found,
        keys={option.name: Secret(found[option.name].text) for option in mine if option.secret},
        variables=variables,
        keys_file=_path(reader, "MOLTINIT_KEYS_FILE", cwd),
        budget=budget,
        budget_soft=reader.get("MOLTINIT_BUDGET_SOFT") or 0.8,
        prices=_path(reader, "MOLTINIT_PRICES", cwd),
        browser_sessions=reader.get("MOLTINIT_BROWSER_SESSIONS") or 8,
        browser_idle=reader.get("MOLTINIT_BROWSER_IDLE") or 600.0,
    )


def _check_broker(reader: _Reader, budget: Mapping[tuple[str, str], float]) -> None:
    found = reader.found
    if any(unit == "dollars" for unit, _ in budget) and "MOLTINIT_PRICES" not in found:
        reader.problems.append("MOLTINIT_BUDGET_DOLLARS_PER_... is set: it needs MOLTINIT_PRICES, a table of prices")
    gateway_keys = [n for n in ("CLOUDFLARE_AI_GATEWAY_API_KEY", "CF_AI_GATEWAY_TOKEN") if n in found]
    if gateway_keys and "CF_AI_GATEWAY_ACCOUNT_ID" not in found:
        reader.problems.append(
            f"{gateway_keys[0]} is set but CF_AI_GATEWAY_ACCOUNT_ID is not: Cloudflare AI Gateway needs both"
        )
    if "CF_AI_GATEWAY_ACCOUNT_ID" in found and not gateway_keys and "MOLTINIT_KEYS_FILE" not in found:
        reader.problems.append(
            "CF_AI_GATEWAY_ACCOUNT_ID is set but neither CLOUDFLARE_AI_GATEWAY_API_KEY nor CF_AI_GATEWAY_TOKEN is"
        )
    for name, needed in (
        ("WORKERS_AI_API_TOKEN", "CF_ACCOUNT_ID"),
        ("WORKERS_AI_API_TOKEN", "WORKERS_AI_MODEL"),
        ("MOLTINIT_MODEL_KEY", "MOLTINIT_MODEL_URL"),
        ("MOLTINIT_MODEL_URL", "MOLTINIT_MODEL_NAME"),
        ("CDP_SECRET", "WORKER_URL"),
    ):
        if name in found and needed not in found:
            reader.problems.append(f"{name} is set but {needed} is not: it needs both")
    if "MOLTINIT_BROWSER_TOKEN" in found and not {"MOLTINIT_BROWSER_URL", "CF_ACCOUNT_ID"} & set(found):
        reader.problems.append(
            "MOLTINIT_BROWSER_TOKEN is set: it needs CF_ACCOUNT_ID (Browser Run) or MOLTINIT_BROWSER_URL"
        )


def _auth(reader: _Reader, host: str, operator_token: Secret | None) -> str:
    access = "CF_ACCESS_TEAM_DOMAIN" in reader.found and "CF_ACCESS_AUD" in reader.found
    auth = reader.text("MOLTINIT_AUTH") or ("access" if access else "token" if operator_token else "none")
    if auth == "access" and not access:
        reader.problems.append("MOLTINIT_AUTH = 'access' needs CF_ACCESS_TEAM_DOMAIN and CF_ACCESS_AUD")
    if auth != "access" and "MOLTINIT_OPERATORS" in reader.found:
        reader.problems.append(
            f"MOLTINIT_OPERATORS tells people apart, which only MOLTINIT_AUTH = 'access' can; it is {auth!r}"
        )
    if auth == "token" and operator_token is None:
        reader.problems.append("MOLTINIT_AUTH = 'token' needs MOLTINIT_OPERATOR_TOKEN (openssl rand -hex 32)")
    if auth == "none" and not _is_loopback(host):
        reader.problems.append(
            f"MOLTINIT_LISTEN = {host!r} is reachable from outside and MOLTINIT_AUTH is none: set "
            "MOLTINIT_OPERATOR_TOKEN or the Access settings, or listen on 127.0.0.1"
        )
    return auth


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _describe(reader: _Reader, settings: Settings) -> tuple[Described, ...]:
    worked_out = {
        "MOLTINIT_HOME": str(settings.home),
        "MOLTINIT_BUCKET_URL": settings.bucket.url,
        "MOLTINIT_S3_ENDPOINT_URL": settings.bucket.endpoint_url or "",
        "MOLTINIT_LISTEN": f"{settings.listen_host}:{settings.listen_port}",
        "MOLTINIT_AUTH": settings.auth,
        "MOLTINIT_AGENT_HOME": str(settings.agent_home),
        "MOLTINIT_OPERATOR_TOKEN": "***" if settings.operator_token else "",
    }
    rows = []
    for option in options.ALL:
        found = reader.found.get(option.name)
        if found is not None:
            value, origin = "***" if option.secret else found.text, found.origin
        else:
            plain = "" if option.default.startswith(("-", "(")) else option.default
            value, origin = worked_out.get(option.name, plain), "default"
        rows.append(Described(option.name, value, origin if value else "not set"))
    return tuple(rows)
