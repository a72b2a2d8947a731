"""Where OpenClaw keeps what, below its HOME."""

from __future__ import annotations

from pathlib import Path

from agent_runtime.contract import ImportedTree, StateLayout

STATE = ".openclaw"
"""The state directory, at OpenClaw's own default place."""

CONFIG = f"{STATE}/openclaw.json"
OWNED_BASE = ".moltinit/openclaw-config.base.json"
"""What moltinit wrote into the config last time: the common ancestor of the three-way merge."""

LEGACY_CONFIGS = ("clawdbot.json", "moltbot.json")
"""What the config was called before; OpenClaw itself renames it only at its old place."""

SKILLS = (Path("/opt/moltinit/skills"), Path(__file__).parents[2] / "image" / "skills")
"""Skills that come with moltinit: in the image, and beside the sources."""

LEASES = ("state_leases", "agent_database_leases")
"""Tables that say which process uses a database. A copy of a live database holds the lease of the gateway that ran
then; on another host it is honoured for five minutes, and the new gateway refuses to start."""

LAYOUT = StateLayout(
    skip=(
        # Rebuilt by the gateway or by npm: 54 MB of page assets, symlinks into the program, temporary files.
        f"/{STATE}/cache/",
        f"/{STATE}/tmp/",
        f"/{STATE}/plugin-skills/",
        f"/{STATE}/logs/",
        # Locks of a process that will not be there.
        f"/{STATE}/openclaw.json.lock",
        f"/{STATE}/**/*.generation-lock.sqlite*",
        f"/{STATE}/**/*.generation-writer.sqlite*",
        f"/{STATE}/**/*.reindex-lock.sqlite*",
        f"/{STATE}/**/*.memory-reindex-*",
        f"/{STATE}/**/.fs-safe-replace.*.tmp",
        f"/{STATE}/**/*.pid",
        f"/{STATE}/**/*.sock",
        # Caches of the shell's tools.
        "/.cache/",
        "/.npm/",
        "/.node-gyp/",
        "/.local/share/Trash/",
        "__pycache__/",
    ),
    first=(
        f"/{CONFIG}",
        "/.moltinit/",
        f"/{STATE}/.env",
        f"/{STATE}/*.key",
        f"/{STATE}/credentials/",
        f"/{STATE}/state/",
        f"/{STATE}/agents/*/agent/*.sqlite",
    ),
    imports=(
        ImportedTree("openclaw/", STATE),
        ImportedTree("clawdbot/", STATE),
        ImportedTree("workspace/", f"{STATE}/workspace"),
        ImportedTree("skills/", f"{STATE}/workspace/skills"),
    ),
    # The gateway renews its lease every 30 s, and writes nothing else while it is idle.
    volatile_tables=LEASES,
)


def databases(home: Path) -> list[Path]:
    """The gateway's SQLite databases that exist."""
    state = home / STATE
    return [
        path
        for pattern in ("state/openclaw.sqlite", "agents/*/agent/openclaw-agent.sqlite")
        for path in sorted(state.glob(pattern))
    ]
