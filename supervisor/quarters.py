"""Where the agent lives: its user, its directories, and the cell around them, put together from the settings.

The daemon and the commands that work on the bare disk both move in here first, so that no file of the agent's is ever
touched with more rights than the agent has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from agent_runtime.contract import (
    AgentRuntime,
    Brokered,
    ConfigHistory,
    ConfigureReport,
    LaunchSpec,
    RuntimeFault,
    SanitiseReport,
)
from supervisor.assembly import agent_runtime
from supervisor.errors import AgentError, DiskError
from supervisor.init.cell.cell import Cell, Limits
from supervisor.init.cell.home import Given, Passage, close_home, give, unreadable
from supervisor.init.cell.measure import Finding
from supervisor.init.cell.rights import Rights
from supervisor.init.cell.user import AgentUser, choose_user, same_user
from supervisor.settings import Settings


class Quarters:
    """Made by `move_in`."""

    def __init__(self, settings: Settings, user: AgentUser, runtime: AgentRuntime, passage: Passage) -> None:
        self._settings = settings
        self._passage = passage
        self.user = user
        self.rights = Rights(user.switch)
        self.runtime: AgentRuntime = AsAgent(runtime, self.rights)
        self._done: dict[Path, int] = {}

    @property
    def opened(self) -> tuple[Path, ...]:
        """Closed directories that the agent's user was let pass through."""
        return self._passage.opened

    def close_home(self) -> None:
        """Close the supervisor's directory to others, but for the way to the agent's."""
        with _disk_errors():
            close_home(self._settings.home, (*agent_directories(self._settings), self.scratch))

    def furnish(self) -> Given:
        """Make the directories, and let everything in them that is root's be the agent's, as `give` does. The agent
        must not be running. A directory that was given before is not walked again."""
        given = Given()
        with _disk_errors():
            for path in (*agent_directories(self._settings), self.scratch):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self._done.get(path) != (inode := path.stat().st_ino):
                    one = give(path, self.user)
                    given.changed += one.changed
                    given.left += one.left
                    self._done[path] = inode
        return given

    @property
    def scratch(self) -> Path:
        """Where a snapshot's temporary copies of the agent's databases are made: with its rights, out of its sight."""
        return self._settings.home / "scratch" / "capture"

    def cell(self, observed: Callable[[Sequence[Finding]], None]) -> Cell:
        """What the agent is locked into."""
        settings = self._settings
        bucket = settings.bucket
        keys = (bucket.secret_access_key, bucket.session_token, bucket.api_token, *settings.broker.keys.values())
        secrets = [secret.reveal() for secret in keys if secret]
        return Cell(
            self.user,
            own=agent_directories(settings),
            hidden=hidden(settings),
            reads=[path for path, writes in settings.agent_paths if not writes],
            writes=[path for path, writes in settings.agent_paths if writes],
            limits=Limits(settings.agent_max_processes, settings.agent_max_files, settings.agent_max_file_size),
            secrets=secrets,
            reach=self.reach,
            observed=observed,
        )

    def reach(self, programs: Sequence[Path], places: Sequence[Path]) -> None:
        """Let the agent's user pass through to what it needs. Raises `AgentError` where it cannot get to one of them,
        or not read a program."""
        for path in (*places, *programs):
            blocked = self._passage.open(path)
            if blocked is not None:
                raise AgentError(
                    f"user {self.user.uid}, the agent's, cannot get to {path}: {blocked} is closed to it",
                    hint=f"chmod o+x {blocked}, or move the program or the home to a place that others can enter",
                )
        found = unreadable(programs, self.user)
        if found is not None:
            raise AgentError(
                f"user {self.user.uid}, the agent's, cannot read {found}",
                hint=f"chmod -R o+rX {found}",
            )


def move_in(settings: Settings, broker: Brokered | None = None) -> Quarters:
    """Choose the agent's user, and see that it can get to where it lives.

    Where no user was asked for and the chosen one cannot get there, the agent shares the supervisor's: it runs, and
    /status says what is missing.

    Raises:
        SettingsError: the user that was asked for is not there.
        AgentError: it cannot get to its home or its program.
    """
    quarters = _quarters(settings, choose_user(settings.agent_user), broker)
    quarters.close_home()
    try:
        quarters.reach(_programs(quarters.runtime), agent_directories(settings))
    except AgentError as error:
        if settings.agent_user is not None:
            raise
        return _quarters(settings, same_user(error.message, error.hint), broker)
    return quarters


def _quarters(settings: Settings, user: AgentUser, broker: Brokered | None) -> Quarters:
    return Quarters(settings, user, agent_runtime(settings, broker, uid=user.uid, gid=user.gid), Passage(user))


def _programs(runtime: AgentRuntime) -> list[Path]:
    """Enough of the agent's program to know; a launch looks at the rest."""
    programs = [Path(sys.prefix), Path(sys.base_prefix)]
    try:
        return [*programs, *(path for path in runtime.warm_files() if path.exists())]
    except RuntimeFault:
        return programs  # there is no program: the launch will say so


def loopback_ports(settings: Settings, broker_port: int) -> list[str]:
    """Loopback ports that the agent needs: its own gateway's, the broker's, and what the operator adds."""
    return [str(settings.agent_port), str(broker_port), *settings.egress_ports]


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"the agent's directories cannot be prepared: {error.strerror} ({error.filename or 'no name'})",
            hint="give MOLTINIT_HOME and MOLTINIT_AGENT_HOME places that can be written",
        ) from error


def agent_directories(settings: Settings) -> tuple[Path, Path]:
    """What the agent may write: its home and its scratch directory."""
    return settings.agent_home, settings.home / "scratch" / "agent"


def hidden(settings: Settings) -> list[Path]:
    """What the agent must not see."""
    paths = [settings.home]
    if settings.bucket.url.startswith("file:"):
        paths.append(Path(urlsplit(settings.bucket.url).path))
    if settings.config_file is not None:
        paths.append(settings.config_file)
    if settings.broker.keys_file is not None:
        paths.append(settings.broker.keys_file)
    return paths


def beforehand(settings: Settings, user: AgentUser) -> list[Finding]:
    """What holds by the way things are set up, whatever the agent's process is like."""
    name = "operator-paths-closed"
    shared = settings.operator_token is not None and settings.operator_token == settings.gateway_token
    if user.own:
        outside = settings.auth == "token" and shared
        why = (
            "on loopback; from outside, the gateway's token, which the agent knows, is the operator's"
            if outside
            else ""
        )
        return [Finding(name, True, why)]
    if settings.auth == "none":
        why = "the agent has the supervisor's user, and MOLTINIT_AUTH is none: it may do what an operator may"
        return [Finding(name, False, why, "set MOLTINIT_OPERATOR_TOKEN, or run moltinit as root")]
    if shared:
        why = "the agent has the supervisor's user, and the gateway's token, which it knows, is the operator's, too"
        return [Finding(name, False, why, "set MOLTINIT_OPERATOR_TOKEN to something else, or run moltinit as root")]
    return [Finding(name, True)]


class AsAgent:
    """A runtime whose work on the disk is done with the agent's rights; the rest is passed on."""

    def __init__(self, runtime: AgentRuntime, rights: Rights) -> None:
        self._runtime = runtime
        self._rights = rights
        self.name = runtime.name
        self.layout = runtime.layout
        self.address = runtime.address
        self.devices = runtime.devices
        self.activity = runtime.activity
        self.identity_headers = runtime.identity_headers
        self.introduce = runtime.introduce
        self.version = runtime.version
        self.warm_files = runtime.warm_files
        self.verdict = runtime.verdict
        self.started = runtime.started
        self.live = runtime.live
        self.quiesce = runtime.quiesce
        self.drain = runtime.drain
        self.close = runtime.close

    @property
    def config_history(self) -> ConfigHistory | None:
        history = self._runtime.config_history
        return None if history is None else _HistoryAsAgent(history, self._rights)

    def sanitise(self) -> SanitiseReport:
        with self._rights.taken():
            return self._runtime.sanitise()

    def configure(self) -> ConfigureReport:
        with self._rights.taken():
            return self._runtime.configure()

    def launch(self) -> LaunchSpec:
        with self._rights.taken():
            return self._runtime.launch()

    def repair(self) -> LaunchSpec | None:
        with self._rights.taken():
            return self._runtime.repair()


class _HistoryAsAgent:
    """A config history kept with the agent's rights."""

    def __init__(self, history: ConfigHistory, rights: Rights) -> None:
        self._history = history
        self._rights = rights

    def starting(self) -> None:
        with self._rights.taken():
            self._history.starting()

    def proven(self) -> bool:
        with self._rights.taken():
            return self._history.proven()

    def roll_back(self) -> Path | None:
        with self._rights.taken():
            return self._history.roll_back()
