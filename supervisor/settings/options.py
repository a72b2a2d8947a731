"""Every setting there is, as a table: its variable, its default, how it is read, what it is for.

`Option.read` turns text into a value and raises `ValueError` with what would be right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from supervisor.units import parse_duration, parse_size


@dataclass(frozen=True, slots=True)
class Option:
    """One variable.

    Args:
        name: the environment variable; in the TOML file it is the same in lower case without `MOLTINIT_`.
        read: from text to value; `ValueError` says what would be right.
        default: as documented (text); what is worked out from other settings is described, in parentheses.
        text: what it is for, one sentence.
        secret: never shown.
        agent: handed to the agent's runtime.
        broker: the broker's: it reaches no agent.
    """

    name: str
    read: Callable[[str], Any]
    default: str
    text: str
    secret: bool = False
    agent: bool = False
    broker: bool = False

    @property
    def key(self) -> str:
        """Its name in the TOML file."""
        return self.name.removeprefix("MOLTINIT_").lower()


def text(value: str) -> str:
    """Any text without control characters."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("it has control characters, such as a line break; remove them")
    return value


def choice(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"use one of: {', '.join(allowed)}")
        return value

    return read


def boolean(value: str) -> bool:
    """Yes or no, as shells and YAML write it."""
    lowered = value.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError("use true or false")


def duration(least: float, most: float) -> Callable[[str], float]:
    """Seconds within bounds."""

    def read(value: str) -> float:
        seconds = parse_duration(value)
        if not least <= seconds <= most:
            raise ValueError(f"use a duration from {least:g}s to {most:g}s")
        return seconds

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def read(value: str) -> int:
        if not value.isdecimal() or not least <= int(value) <= most:
            raise ValueError(f"use a whole number from {least} to {most}")
        return int(value)

    return read


def port(value: str) -> int:
    """A TCP port."""
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise ValueError("use a port from 1 to 65535")
    return int(value)


def ports(value: str) -> tuple[str, ...]:
    """Ports and ranges of ports."""
    for word in words(value):
        first, dash, last = word.partition("-")
        if port(first) > (port(last) if dash else 65535):
            raise ValueError("write a range as LEAST-MOST")
    return words(value)


def amount(value: str) -> float:
    """A number above zero."""
    number = float(value.replace("_", "").removeprefix("$"))
    if not 0 < number < 1e15:
        raise ValueError("use a number above 0")
    return number


def fraction(value: str) -> float:
    """A part of a whole."""
    number = float(value)
    if not 0 < number <= 1:
        raise ValueError("use a number above 0 and up to 1")
    return number


def browser_url(value: str) -> str:
    """A CDP endpoint: `https://` or `wss://`; without TLS on loopback only."""
    if value.startswith(("ws://", "wss://")):
        return "ws" + http_url("http" + value.removeprefix("ws")).removeprefix("http")
    return http_url(value)


def address(value: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port`."""
    host, separator, number = value.rpartition(":")
    if not separator:
        raise ValueError("write it as HOST:PORT, for instance 127.0.0.1:8080")
    host = host.removeprefix("[").removesuffix("]")
    return host or "0.0.0.0", port(number)


def path(value: str) -> str:
    """A path; relative ones count from the current directory."""
    if "\0" in value:
        raise ValueError("a path has no NUL")
    return value


def words(value: str) -> tuple[str, ...]:
    """Separated by commas or line breaks."""
    return tuple(word for part in value.splitlines() for word in (piece.strip() for piece in part.split(",")) if word)


def public_paths(value: str) -> tuple[str, ...]:
    """Paths that need no reading: `/hooks/telegram`, or `/hooks/*` for what is below `/hooks/`."""
    found = words(value)
    for pattern in found:
        path = pattern.removesuffix("*") if pattern.endswith("/*") else pattern
        segments = path.removesuffix("/").split("/")[1:] if path != "/" else []
        plain = "-._~!$&'()+=:@"
        if not path.startswith("/") or (path == pattern and path.endswith("/")):
            raise ValueError(f"{pattern!r} is no path such as /hooks/telegram or /hooks/*")
        if not all(segment and segment[0] != "." for segment in segments) or not all(
            character == "/" or character in plain or (character.isascii() and character.isalnum())
            for character in path
        ):
            raise ValueError(f"{pattern!r} has a character or a segment that programs read differently")
        own = ("_admin", "api", "status", "metrics", "livez", "readyz", "startupz", "sandbox-health")
        if not segments or segments[0].lower() in own:
            raise ValueError(f"{pattern!r} covers paths of the front door itself")
    return found


def agent_user(value: str) -> str:
    """`NAME`, `UID`, `UID:GID` or `same`."""
    user, colon, group = value.partition(":")
    good = user.isdecimal() if colon else user.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not good or (colon and not group.isdecimal()):
        raise ValueError("write it as NAME, UID or UID:GID (numbers), or same")
    return value


def agent_paths(value: str) -> tuple[tuple[str, bool], ...]:
    """Absolute paths, each with whether it may be written."""
    paths = tuple((word.removesuffix(":ro"), not word.endswith(":ro")) for word in words(value))
    if any(not path.startswith("/") or "\0" in path for path, _ in paths):
        raise ValueError("use absolute paths, each with :ro behind it where it is only to be read")
    return paths


def count(value: str) -> int:
    """A whole number above 15: fewer processes or files let no agent run."""
    if not value.isdecimal() or int(value) < 16:
        raise ValueError("use a whole number from 16 on")
    return int(value)


def size(value: str) -> int:
    """Bytes."""
    return parse_size(value)


def egress(value: str) -> tuple[str, ...]:
    """`public`, `open`, or host names and addresses."""
    hosts = words(value)
    for host in hosts:
        if not host.replace("-", "").replace(".", "").replace(":", "").replace("/", "").isalnum():
            raise ValueError("use public, open, or host names and addresses separated by commas")
    if len(hosts) > 1 and {"public", "open"} & set(hosts):
        raise ValueError("public and open stand alone")
    return hosts


def account(value: str) -> str:
    """A Cloudflare account id."""
    if len(value) != 32 or any(character not in "0123456789abcdefABCDEF" for character in value):
        raise ValueError("an account id has 32 hexadecimal digits; it is in the dashboard's address")
    return value.lower()


def bucket_name(value: str) -> str:
    """An S3 or R2 bucket name."""
    good = value.replace("-", "").replace(".", "")
    if not 3 <= len(value) <= 63 or not good.isalnum() or not good.isascii() or value != value.lower():
        raise ValueError("a bucket name has 3-63 lower-case letters, digits, hyphens or dots")
    return value


def token(value: str) -> str:
    """A secret that others must not guess."""
    text(value)
    if len(value) < 16:
        raise ValueError("it must have 16 characters or more; make one with: openssl rand -hex 32")
    return value


def http_url(value: str) -> str:
    """`https://...`; plain http only on loopback, where nobody listens in."""
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1") or (parts.hostname or "").startswith("127.")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ValueError("write it as https://host[:port][/path], without a user or password")
    if parts.scheme == "http" and not loopback:
        raise ValueError("plain http is possible on a loopback host only; use https://")
    return value.rstrip("/")


def endpoint_url(value: str) -> str:
    """An S3 endpoint; plain http is left to the operator, since test servers and private networks have it."""
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ValueError("write it as https://host[:port], without a user or password")
    return value.rstrip("/")


def team_domain(value: str) -> str:
    """`team.cloudflareaccess.com`, with or without a scheme."""
    return http_url(value if "://" in value else f"https://{value}")


def bucket_url(value: str) -> str:
    """`s3://bucket/prefix`, `file:///directory`, `memory://name`."""
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError("no keys in the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if parts.scheme == "s3" and parts.netloc:
        bucket_name(parts.netloc)
        return value.rstrip("/")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return value
    raise ValueError("write it as s3://bucket[/prefix] or file:///directory")


OWN = (
    Option(
        "MOLTINIT_HOME",
        path,
        "(`/var/lib/moltinit` as root, else `./.moltinit`)",
        "local data: the agent's home, caches, logs",
    ),
    Option("MOLTINIT_CONFIG", path, "-", "a TOML file with further settings; the environment wins over it"),
    Option(
        "MOLTINIT_BUCKET_URL",
        bucket_url,
        "(R2 where its secrets are set, else `file://$MOLTINIT_HOME/bucket`)",
        "where the state is kept",
    ),
    Option("MOLTINIT_S3_ENDPOINT_URL", endpoint_url, "(R2's, from `CF_ACCOUNT_ID`)", "any S3-compatible server"),
    Option(
        "MOLTINIT_LISTEN",
        address,
        "(`0.0.0.0:8080` in the image, else `127.0.0.1:8080`)",
        "where the front door listens",
    ),
    Option(
        "MOLTINIT_AUTH",
        choice("none", "token", "access"),
        "(`access`, `token` or `none`, by what is set)",
        "who may use the front door; `none` on loopback only",
    ),
    Option(
        "MOLTINIT_OPERATOR_TOKEN",
        token,
        "(the gateway token)",
        "what the login page and bearers are asked for in token mode; set by itself, it counts beside Access, too",
        secret=True,
    ),
    Option(
        "MOLTINIT_PUBLIC_PATHS",
        public_paths,
        "-",
        "the agent's webhooks, which everybody may call: `/hooks/telegram`, or `/hooks/*` for all below `/hooks/`",
    ),
    Option(
        "MOLTINIT_OPERATORS",
        words,
        "(everybody whom Access lets in)",
        "who may use the operator's paths: e-mail addresses, names (client ids) of service tokens; with Access only",
    ),
    Option("MOLTINIT_AGENT", choice("openclaw", "echo"), "openclaw", "which agent to run"),
    Option(
        "MOLTINIT_AGENT_HOME",
        path,
        "(`$MOLTINIT_HOME/agent`)",
        "the agent's HOME: what is saved and restored",
    ),
    Option("MOLTINIT_AGENT_PORT", port, "18789", "the loopback port of the agent"),
    Option(
        "MOLTINIT_OPENCLAW_BIN",
        path,
        "(found on PATH, then the project's own install)",
        "the gateway's program",
    ),
    Option(
        "MOLTINIT_AGENT_USER",
        agent_user,
        "(`agent` or `openclaw` where there is one, else 10001; not as root: the same)",
        "the agent's own user: a name, `UID` or `UID:GID`; `same` gives up the protection",
    ),
    Option(
        "MOLTINIT_AGENT_PATHS",
        agent_paths,
        "-",
        "further paths that the agent may write (`/data`) or only read (`/models:ro`)",
    ),
    Option("MOLTINIT_AGENT_MAX_PROCESSES", count, "2048", "processes and threads of the agent's user"),
    Option("MOLTINIT_AGENT_MAX_FILES", count, "65536", "open files of one process of the agent"),
    Option("MOLTINIT_AGENT_MAX_FILE_SIZE", size, "-", "the largest file that the agent may write"),
    Option(
        "MOLTINIT_EGRESS",
        egress,
        "(`public` in a VM of its own: in the image, or as PID 1; else `open`)",
        "what the agent's user may reach: `public` addresses, `open` (everything), or a list of hosts",
    ),
    Option(
        "MOLTINIT_EGRESS_PORTS",
        ports,
        "-",
        "further loopback ports that the agent may connect to (servers that it starts itself): `3000,8000-8099`",
    ),
    Option("MOLTINIT_STOP_GRACE", duration(2, 3600), "25s", "deadline of drain and seal together"),
    Option("MOLTINIT_START_TIMEOUT", duration(5, 3600), "180s", "how long the agent may take to start"),
    Option("MOLTINIT_SNAPSHOT_QUIET", duration(0.05, 3600), "500ms", "a change is saved after so much quiet"),
    Option(
        "MOLTINIT_SNAPSHOT_MAX_DELAY",
        duration(0.05, 3600),
        "1500ms",
        "and after so long at most, while changes go on",
    ),
    Option(
        "MOLTINIT_CONSISTENT_INTERVAL",
        duration(10, 86400),
        "15m",
        "how often the agent is held still for a snapshot, at most",
    ),
    Option(
        "MOLTINIT_EXCLUDE",
        words,
        "-",
        "gitignore-style patterns of what not to save, relative to the agent's HOME",
    ),
    Option(
        "MOLTINIT_LOG_FORMAT",
        choice("auto", "json", "console"),
        "auto",
        "`auto` is readable on a terminal and JSON elsewhere",
    ),
    Option(
        "MOLTINIT_LOG_LEVEL",
        choice("debug", "info", "warning", "error"),
        "info",
        "the least level that is logged",
    ),
)

BUCKET = (
    Option("R2_ACCESS_KEY_ID", text, "-", "R2: access key"),
    Option("R2_SECRET_ACCESS_KEY", text, "-", "R2: secret key", secret=True),
    Option("R2_BUCKET_NAME", bucket_name, "moltbot-data", "R2: the bucket"),
    Option("CF_ACCOUNT_ID", account, "-", "R2: the account"),
    Option(
        "MOLTINIT_R2_CREDENTIALS",
        choice("keys", "signed", "api"),
        "keys",
        "R2: `keys` uses them as they are; `signed` and `api` make credentials of an hour for the prefix alone ([buckets](providers.md))",
    ),
    Option("R2_API_TOKEN", text, "-", "R2: Cloudflare's API token, for `api`", secret=True),
    Option("AWS_ACCESS_KEY_ID", text, "-", "S3: access key, where the R2 secrets are not set"),
    Option("AWS_SECRET_ACCESS_KEY", text, "-", "S3: secret key", secret=True),
    Option("AWS_SESSION_TOKEN", text, "-", "S3: session token", secret=True),
    Option("AWS_REGION", text, "auto", "S3: region"),
)

DOOR = (
    Option("MOLTBOT_GATEWAY_TOKEN", token, "-", "the gateway's token", secret=True),
    Option("OPENCLAW_GATEWAY_TOKEN", token, "(`MOLTBOT_GATEWAY_TOKEN`)", "the gateway's token", secret=True),
    Option("CF_ACCESS_TEAM_DOMAIN", team_domain, "-", "Cloudflare Access: team domain, with or without a scheme"),
    Option("CF_ACCESS_AUD", words, "-", "Cloudflare Access: audience tags"),
    Option("WORKER_URL", http_url, "-", "the public address under which people reach the front door"),
    Option("DEV_MODE", boolean, "false", "accepted for moltworker's sake; it opens nothing"),
    Option("OPENCLAW_DEV_MODE", boolean, "false", "the same as `DEV_MODE`"),
)

MODELS = (
    Option("ANTHROPIC_API_KEY", text, "-", "Anthropic", secret=True, broker=True),
    Option(
        "ANTHROPIC_BASE_URL", http_url, "`https://api.anthropic.com`", "another server for Anthropic's API", broker=True
    ),
    Option("OPENAI_API_KEY", text, "-", "OpenAI", secret=True, broker=True),
    Option("OPENAI_BASE_URL", http_url, "`https://api.openai.com/v1`", "another server for OpenAI's API", broker=True),
    Option("OPENROUTER_API_KEY", text, "-", "OpenRouter", secret=True, broker=True),
    Option("GEMINI_API_KEY", text, "-", "Google (generativelanguage.googleapis.com)", secret=True, broker=True),
    Option(
        "WORKERS_AI_API_TOKEN",
        text,
        "-",
        "Workers AI of `CF_ACCOUNT_ID`: a token with `Workers AI - Read`",
        secret=True,
        broker=True,
    ),
    Option("WORKERS_AI_MODEL", text, "-", "Workers AI: the model, `@cf/...`", broker=True),
    Option(
        "MOLTINIT_MODEL_URL",
        http_url,
        "-",
        "any server with OpenAI's API, its `/v1` included; plain http on loopback only",
        broker=True,
    ),
    Option("MOLTINIT_MODEL_KEY", text, "-", "its key, if it wants one", secret=True, broker=True),
    Option("MOLTINIT_MODEL_NAME", text, "-", "its model", broker=True),
    Option(
        "CLOUDFLARE_AI_GATEWAY_API_KEY",
        text,
        "-",
        "Cloudflare AI Gateway: the provider's key; not set where the gateway keeps it (BYOK)",
        secret=True,
        broker=True,
    ),
    Option(
        "CF_AI_GATEWAY_TOKEN",
        text,
        "-",
        "Cloudflare AI Gateway: the gateway's own token (`cf-aig-authorization`)",
        secret=True,
        broker=True,
    ),
    Option("CF_AI_GATEWAY_ACCOUNT_ID", account, "-", "Cloudflare AI Gateway: account", broker=True),
    Option("CF_AI_GATEWAY_GATEWAY_ID", text, "-", "Cloudflare AI Gateway: gateway", broker=True),
    Option("CF_AI_GATEWAY_MODEL", text, "-", "Cloudflare AI Gateway: `provider/model`", broker=True),
    Option("AI_GATEWAY_API_KEY", text, "-", "legacy gateway: key", secret=True, broker=True),
    Option("AI_GATEWAY_BASE_URL", http_url, "-", "legacy gateway: address", broker=True),
)

BROKER = (
    Option(
        "MOLTINIT_BROKER_PORT",
        port,
        "(the agent's port + 1; another one where that is taken)",
        "the loopback port of the broker",
    ),
    Option(
        "MOLTINIT_KEYS_FILE",
        path,
        "-",
        "a file (mode 0600) of `NAME=value` lines with keys of this page; it wins over the environment, and what changes in it takes effect at once",
    ),
    *(
        Option(
            f"MOLTINIT_BUDGET_{unit.upper()}_PER_{window.upper()}",
            amount,
            "-",
            f"beyond so many {unit} in a calendar {window} (UTC) model requests are refused",
        )
        for unit in ("requests", "tokens", "dollars")
        for window in ("minute", "day", "month")
    ),
    Option("MOLTINIT_BUDGET_SOFT", fraction, "0.8", "the part of a budget from which on it is shown as a problem"),
    Option("MOLTINIT_PRICES", path, "-", "a TOML file of prices, for budgets in dollars ([broker](broker.md))"),
    Option(
        "MOLTINIT_BROWSER_URL",
        browser_url,
        "(Cloudflare Browser Run, where there is a token)",
        "a CDP endpoint: `https://...` with `/json/version` below it, or `wss://...`",
        broker=True,
    ),
    Option(
        "MOLTINIT_BROWSER_TOKEN",
        text,
        "-",
        "the browser's bearer token; for Browser Run of `CF_ACCOUNT_ID` one with `Browser Rendering - Edit`",
        secret=True,
        broker=True,
    ),
    Option("CDP_SECRET", text, "-", "the browser endpoint of the Worker at `WORKER_URL`", secret=True, broker=True),
    Option("MOLTINIT_BROWSER_SESSIONS", whole(1, 64), "8", "WebSockets to the browser at once"),
    Option("MOLTINIT_BROWSER_IDLE", duration(10, 3600), "10m", "a browser that nobody talks to for so long is let go"),
)

AGENT = (
    Option("TELEGRAM_BOT_TOKEN", text, "-", "Telegram", secret=True, agent=True),
    Option(
        "TELEGRAM_DM_POLICY",
        choice("pairing", "open", "allowlist", "disabled"),
        "pairing",
        "Telegram: who may write",
        agent=True,
    ),
    Option("TELEGRAM_DM_ALLOW_FROM", text, "-", "Telegram: user ids, separated by commas", agent=True),
    Option("DISCORD_BOT_TOKEN", text, "-", "Discord", secret=True, agent=True),
    Option(
        "DISCORD_DM_POLICY",
        choice("pairing", "open", "allowlist", "disabled"),
        "pairing",
        "Discord: who may write",
        agent=True,
    ),
    Option("SLACK_BOT_TOKEN", text, "-", "Slack: bot token", secret=True, agent=True),
    Option("SLACK_APP_TOKEN", text, "-", "Slack: app token", secret=True, agent=True),
)

ALL = (*OWN, *BUCKET, *DOOR, *MODELS, *BROKER, *AGENT)


def secret_names() -> tuple[str, ...]:
    """The variables that hold secrets, and the ids of keys."""
    return tuple(option.name for option in ALL if option.secret or option.name.endswith("_ACCESS_KEY_ID"))


SECTIONS = {
    "moltinit": OWN,
    "The bucket": BUCKET,
    "The front door": DOOR,
    "Models": MODELS,
    "The broker": BROKER,
    "The agent": AGENT,
}
"""For the documentation."""

TOGETHER = (
    (("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "CF_ACCOUNT_ID"), "R2"),
    (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "the S3 keys"),
    (("CF_ACCESS_TEAM_DOMAIN", "CF_ACCESS_AUD"), "Cloudflare Access"),
    (("CF_AI_GATEWAY_ACCOUNT_ID", "CF_AI_GATEWAY_GATEWAY_ID"), "Cloudflare AI Gateway"),
    (("AI_GATEWAY_API_KEY", "AI_GATEWAY_BASE_URL"), "the legacy AI gateway"),
    (("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"), "Slack"),
)
"""Groups of which all or none must be set: a half is a mistake, not a choice."""
