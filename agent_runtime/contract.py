"""`AgentRuntime`: all that the supervisor knows of an agent.

An agent runtime is a description, not a process: it says how the agent's state is laid out, how to configure and
launch it, how to ask after its health, and how to hold it still. The supervisor owns the process, the snapshots and
the network. Nothing here imports the supervisor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """A model provider as the agent reaches it: on loopback, with a placeholder for a key.

    Args:
        name: the provider's, unique.
        api: how it is spoken to: `anthropic`, `openai` or `google`.
        base_url: as clients of that API want it.
        model: the model to begin with; empty leaves it to the agent.
        named: the operator chose the model by name.
    """

    name: str
    api: str
    base_url: str
    model: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True)
class Brokered:
    """What the agent reaches through the supervisor instead of holding a key for it.

    Args:
        url: the broker, on loopback.
        token: stands in the place of every key; it changes with each life, so it belongs into the environment.
        models: the first one is where the default model comes from.
        browser_url: a CDP endpoint (`/json/version` below it); None where there is no browser.
    """

    url: str
    token: str = field(repr=False)
    models: tuple[ModelEndpoint, ...] = ()
    browser_url: str | None = None


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What a runtime is made from.

    Args:
        home: the agent's HOME, the same path in every life; everything below it that no skip rule names is state.
        scratch: a directory outside the state, for caches and temporary files; it dies with the VM.
        port: the loopback port that the agent is to listen on.
        token: the secret that the supervisor's own client presents to the agent on loopback, or None for none.
        variables: the recognised environment variables of the operator that are the agent's own (channel tokens).
        program: the agent's program where the operator named one.
        public_origins: origins (`https://host`) under which people reach the agent through the front door; empty where
            nobody knows them.
        operators: names of callers (`Caller.name`) who may do everything, as far as they are known beforehand.
        all_operate: whoever passes the front door may do everything.
        uid: the user that the agent is going to run as; None is the supervisor's.
        gid: that user's group.
        broker: models and browser; None where the agent is not going to be started.
    """

    home: Path
    scratch: Path
    port: int
    token: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    program: Path | None = None
    public_origins: tuple[str, ...] = ()
    operators: tuple[str, ...] = ("operator",)
    all_operate: bool = False
    uid: int | None = None
    gid: int | None = None
    broker: Brokered | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who stands behind a request that the front door passes on, as the front door has found out.

    Args:
        name: an e-mail address, the name of a service, or `operator`; empty on a public path, where nobody was asked.
        operator: may do everything, not only talk.
        address: the client's IP address, as far as it is known.
        host: the Host header with which the front door was reached.
        scheme: `http` or `https`, as the client sees it.
    """

    name: str
    operator: bool = False
    address: str = ""
    host: str = ""
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class ImportedTree:
    """Where a foreign bucket layout keeps a part of the state: keys below `prefix` belong below `target` (relative to
    HOME). Of several entries with the same target the first one that exists in the bucket is taken."""

    prefix: str
    target: str


@dataclass(frozen=True, slots=True)
class StateLayout:
    """What of HOME is state, and in which order it is wanted back.

    Args:
        skip: gitignore-style patterns relative to HOME: what can be rebuilt (caches, locks, sockets, logs).
        first: gitignore-style patterns relative to HOME: what is restored before the rest (config, databases).
        imports: foreign bucket layouts that can be moved in.
        volatile_tables: tables that only say which process uses a database (leases, heartbeats): they are stored
            empty, and a change in nothing else is none.
    """

    skip: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    imports: tuple[ImportedTree, ...] = ()
    volatile_tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """A program to run: absolute argv[0], the whole environment (nothing is inherited), and where to run it.

    Args:
        reads: files and directories of the program outside of the system's own (/usr, /opt and the like).
        writes: directories outside of HOME and the scratch directory that it cannot do without.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer of a probe: healthy or not, and why not, in one line."""

    ok: bool
    detail: str = ""


class ExitVerdict(Enum):
    """What an exit that nobody asked for means."""

    RESTART = "restart"
    """The agent wants to be started again (a config change, an update): no failure, no backoff."""
    FAILURE = "failure"
    """A crash: restart with backoff, counted."""
    REPAIR = "repair"
    """The agent cannot start on this configuration: run its own repair once, then start again."""


@dataclass(frozen=True, slots=True)
class SanitiseReport:
    """What was removed, and what could not be looked after."""

    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigureReport:
    """What configuring changed: the names of the owned settings that were written, never their values."""

    changed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activity:
    """What the agent is doing, and when it wants to do something next: what decides whether its VM may sleep.

    Args:
        busy: something is under way that a stop would cut short.
        doing: what, in words or machine names, for an operator.
        next_wake: when it wants to run by itself (a job, a heartbeat), seconds since 1970; None where nothing is
            planned.
    """

    busy: bool
    doing: tuple[str, ...] = ()
    next_wake: float | None = None


class ConfigHistory(Protocol):
    """The config that the agent was last healthy on. Its methods block on the local disk."""

    def starting(self) -> None:
        """The agent is about to read its config."""
        ...

    def proven(self) -> bool:
        """The agent has been healthy for a while: remember what it runs on; True where that was news."""
        ...

    def roll_back(self) -> Path | None:
        """Put the last healthy config in place; returns where the other one is kept, None where there is nothing to go
        back to. Raises `RuntimeFault`."""
        ...


class RuntimeFault(Exception):
    """A runtime could not do its work (program missing, config unreadable, no answer); `hint` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownDevice(RuntimeFault):
    """There is no pending request, or no device, of that name."""


@dataclass(frozen=True, slots=True)
class DeviceList:
    """The devices in the agent's own words; `pending` rows have a `requestId`, `paired` ones a `deviceId`."""

    pending: Sequence[Mapping[str, Any]] = ()
    paired: Sequence[Mapping[str, Any]] = ()


class DeviceRegistry(Protocol):
    """An agent that lets each browser or app in one by one. All methods raise `RuntimeFault` where the agent does not
    answer, and `UnknownDevice` (a `RuntimeFault`) for a name that it does not know."""

    async def list(self) -> DeviceList:
        """Who asks to be let in, and who is."""
        ...

    async def approve(self, request_id: str) -> str:
        """Let a pending device in; returns its id."""
        ...

    async def reject(self, request_id: str) -> str:
        """Turn a pending device away; returns its id."""
        ...

    async def remove(self, device_id: str) -> None:
        """Forget a paired device, and end its connections."""
        ...


class Stillness(Protocol):
    """Is the agent still? Asked at any time within `AgentRuntime.quiesce`; once it is not, it stays so. A plain bool is
    the answer of an agent that never changes its mind."""

    def __bool__(self) -> bool: ...


class AgentRuntime(Protocol):
    """One kind of agent. Methods that are not `async` may block on the local disk and are called in a thread."""

    @property
    def name(self) -> str:
        """The agent's name as in `MOLTINIT_AGENT`."""
        ...

    @property
    def layout(self) -> StateLayout:
        """What to snapshot and restore."""
        ...

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on loopback where the agent answers HTTP and WebSocket."""
        ...

    @property
    def devices(self) -> DeviceRegistry | None:
        """Its devices; None for an agent that has none."""
        ...

    @property
    def identity_headers(self) -> frozenset[str]:
        """Names, in lower case, of the headers by which the agent believes who is asking: what a client sends under
        them never reaches the agent."""
        ...

    def introduce(self, caller: Caller) -> Mapping[str, str]:
        """The headers that tell the agent who is asking."""
        ...

    def version(self) -> str:
        """The agent program's version, read without starting it. Raises `RuntimeFault` where there is no program."""
        ...

    def warm_files(self) -> tuple[Path, ...]:
        """Program files and directories worth reading into the page cache while the network works."""
        ...

    def sanitise(self) -> SanitiseReport:
        """Remove from a restored state what binds it to its last life (leases, locks, process ids). Called after a
        restore and before a launch, never beside a running agent. What it cannot remove is a note: whether that keeps
        the agent from starting is seen when it starts."""
        ...

    def configure(self) -> ConfigureReport:
        """Merge the operator's settings into the agent's config: three-way, owned keys only. Raises `RuntimeFault`;
        a config that is not valid is never written over one that is."""
        ...

    def launch(self) -> LaunchSpec:
        """How to start the agent in the foreground."""
        ...

    def repair(self) -> LaunchSpec | None:
        """The agent's own repair command, run to its end while the agent is down; None where there is none."""
        ...

    @property
    def config_history(self) -> ConfigHistory | None:
        """The way back from a config that the agent does not start on; None for an agent without a config."""
        ...

    def verdict(self, exit_code: int) -> ExitVerdict:
        """What an exit that nobody asked for means; negative codes are signals, as in `subprocess`."""
        ...

    async def started(self) -> Probe:
        """The startup probe: has the agent finished starting?"""
        ...

    async def live(self) -> Probe:
        """The liveness probe: does the agent still answer? It depends on nothing outside the VM."""
        ...

    def quiesce(self, seconds: float) -> AbstractAsyncContextManager[Stillness]:
        """Hold the agent still for a snapshot, for at most `seconds`: then it goes on, and so does the snapshot. What
        it yields is true while the agent is still, false where it is busy or cannot be held, or goes on again; leaving
        the context lets it go on. Never raises for an agent that does not answer."""
        ...

    async def activity(self) -> Activity | None:
        """What it is doing; None where it does not say. Never raises."""
        ...

    async def drain(self, seconds: float) -> None:
        """Before SIGTERM: take no new work, end or abort what runs, within `seconds`. Never raises; the supervisor
        stops the process afterwards in any case."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
