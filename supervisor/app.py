"""The one place where parts are made and put together, from `Settings`. Nothing is decided here.

This module is slow to import, on purpose: everything that it names is needed for a life, and `boot` has bound the
port before it is imported.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from agent_runtime.contract import AgentRuntime
from supervisor.agent_control import AgentControl
from supervisor.assembly import (
    agent_version,
    bucket_location,
    make_engine,
    new_id,
    new_secret,
    skip_rules,
)
from supervisor.backdoor import make_broker
from supervisor.clock import Clock
from supervisor.control import Control
from supervisor.daemon_file import DaemonFile
from supervisor.doors import Doors
from supervisor.health.agent import AgentHealth
from supervisor.health.bucket import BucketHealth
from supervisor.health.herald import Herald
from supervisor.health.history import History
from supervisor.health.isolation import Isolation
from supervisor.health.looplag import LoopLag
from supervisor.health.maintenance import Maintenance
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.health.resources import Machine
from supervisor.health.watchdog import Watchdog
from supervisor.http.audit import AuditTrail
from supervisor.http.early import EarlyResponder
from supervisor.init.cell.user import AgentUser
from supervisor.init.egress.filter import Egress
from supervisor.init.notify import Notifier
from supervisor.init.reaper import Children, Reaper, adopt_orphans
from supervisor.init.signals import Signals
from supervisor.init.strays import end_strays
from supervisor.lifecycle import Grace, Lifecycle
from supervisor.log import Mask
from supervisor.phases import Timeline
from supervisor.process.keeper import Keeper
from supervisor.process.log_file import LogFile
from supervisor.process.logs import LogLine, Logs
from supervisor.process.probes import ProbePolicy
from supervisor.quarters import Quarters, beforehand, loopback_ports, move_in
from supervisor.settings import Settings
from supervisor.snapshot.local import LocalDisk
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.saver import Saver
from supervisor.snapshot.schedule import Pace
from supervisor.store.open import open_store

if TYPE_CHECKING:
    from supervisor.broker.broker import Broker
    from supervisor.http.server import FrontDoor


async def live(
    settings: Settings,
    *,
    signals: Signals,
    clock: Clock,
    timeline: Timeline,
    early: EarlyResponder,
    notifier: Notifier,
    log: FilteringBoundLogger,
    mask: Mask,
) -> int:
    """Put one life together and live it; returns the exit code. Raises `MoltinitError` where it cannot begin."""
    async with AsyncExitStack() as stack:
        disk = LocalDisk(settings.home, new_id)
        disk.lock()
        stack.callback(disk.unlock)

        # Init: what PID 1 owes its VM.
        children = Children()
        reaper = Reaper(children)
        signals.on_child(reaper.wake)
        adopt_orphans()

        # Health.
        problems = Problems(clock)
        maintenance = Maintenance(clock, problems)
        lag = LoopLag(clock, problems)
        herald = Herald(notifier)
        watchdog = Watchdog(clock, on_pat=herald.pat)
        machine = Machine(settings.agent_home)
        history = History(clock, machine.look)
        metrics = Metrics(
            problems=problems.codes, loop_lag_seconds=lag.max_lag, resources=machine.look, time=clock.time
        )
        bucket = BucketHealth(problems, metrics)
        isolation = Isolation(problems)

        # The back door: listening before the agent starts, served when its server is imported.
        broker = make_broker(settings, clock=clock, metrics=metrics, problems=problems, log=log, mask=mask)
        stack.push_async_callback(broker.close)
        isolation.note(broker.findings())

        # The agent, and where it lives.
        quarters = await asyncio.to_thread(move_in, settings, broker.access)
        if quarters.opened:
            log.info("agent.let_pass", uid=quarters.user.uid, directories=[str(path) for path in quarters.opened])
        runtime = quarters.runtime
        stack.push_async_callback(runtime.close)
        isolation.note(beforehand(settings, quarters.user))
        version = await asyncio.to_thread(agent_version, runtime)
        logs = Logs(
            clock=clock,
            mask=mask.text,
            file=LogFile(
                settings.home / "logs", on_error=lambda error: log.warning("log.file_failed", error=str(error))
            ),
            echo=lambda line: _echo(log, line),
        )
        stack.callback(logs.close)
        keeper = Keeper(
            runtime,
            clock=clock,
            children=children,
            logs=logs,
            cell=quarters.cell(isolation.note),
            probes=ProbePolicy(start_timeout=settings.start_timeout),
            on_state=AgentHealth(problems, metrics).observe,
            maintenance=maintenance,
            log=log,
        )

        egress = Egress(
            quarters.user,
            settings.egress,
            ports=loopback_ports(settings, broker.port),
            observed=isolation.note,
            denied=lambda packets: _denied(packets, metrics, problems, log),
        )
        await egress.start()
        stack.push_async_callback(egress.stop)

        # The bucket, and the engine on it.
        store = open_store(bucket_location(settings), clock=clock, observe=bucket.observe)
        stack.push_async_callback(store.close)
        rules = skip_rules(settings, runtime)
        engine = make_engine(
            settings,
            runtime=runtime,
            version=version,
            store=store,
            disk=disk,
            rules=rules,
            clock=clock,
            retention=Retention(paused=lambda: maintenance.on),
            rights=quarters.rights,
            furnish=lambda: _furnish(quarters, log),
            scratch=quarters.scratch,
            usage=broker.usage,
        )
        stack.callback(engine.close)
        saver = Saver(
            engine,
            root=settings.agent_home,
            rules=rules,
            pace=Pace(
                quiet=settings.snapshot_quiet,
                max_delay=settings.snapshot_max_delay,
                consistent_interval=settings.consistent_interval,
            ),
            clock=clock,
            problems=problems,
            metrics=metrics,
            log=log,
            quiesce=runtime.quiesce,
            hand_over=lambda: lifecycle.hand_over(),
            paused=lambda: maintenance.on,
        )

        # The life, and the doors to it.
        audit_file = LogFile(settings.home / "logs", "audit.jsonl", render=lambda line: line.text)
        stack.callback(audit_file.close)
        audit = AuditTrail(clock, mask=mask.value, sink=audit_file, log=log, path=audit_file.path)
        credential = new_secret()
        doors = Doors(
            early,
            lambda: _front_door(
                settings, control, runtime, quarters.user, credential, problems, metrics, clock, log, audit
            ),
            log,
        )
        stack.push_async_callback(doors.close)
        lifecycle = Lifecycle(
            engine=engine,
            saver=saver,
            keeper=keeper,
            runtime=runtime,
            stop=signals,
            timeline=timeline,
            grace=Grace(total=settings.stop_grace),
            clock=clock,
            problems=problems,
            metrics=metrics,
            log=log,
            open_doors=lambda: _open(doors, broker),
            after_drain=lambda: _end_strays(reaper, log),
            on_phase=herald.entered,
            page=_page(settings),
            claimed=lambda head: broker.resume(head.usage),
        )
        signals.on_snapshot(lifecycle.snapshot_soon)
        control = Control(
            timeline=timeline,
            lifecycle=lifecycle,
            engine=engine,
            saver=saver,
            keeper=keeper,
            runtime=runtime,
            agent_version=version,
            logs=logs,
            problems=problems,
            metrics=metrics,
            bucket=bucket,
            bucket_url=store.url,
            agent=AgentControl(keeper=keeper, runtime=runtime, timeline=timeline, maintenance=maintenance, clock=clock),
            settings=settings,
            audited=audit.entries,
            agent_uid=lambda: quarters.user.uid,
            isolation=isolation,
            history=history,
            broker=broker,
        )
        daemon_file = DaemonFile(settings.home)
        daemon_file.write(settings.listen_host, settings.listen_port, credential)
        stack.callback(daemon_file.remove)
        log.info(
            "daemon.starting",
            pid=os.getpid(),
            page=_page(settings),
            agent=runtime.name,
            agent_version=version or "not installed",
            bucket=store.url,
            home=str(settings.home),
        )
        return await lifecycle.run(lag.run, watchdog.run, reaper.run, egress.run, history.run, broker.watch)


async def _open(doors: Doors, broker: Broker) -> None:
    await broker.open()
    await doors.open()


def _denied(packets: int, metrics: Metrics, problems: Problems, log: FilteringBoundLogger) -> None:
    metrics.egress_denied(packets)
    log.warning("egress.denied", packets=packets)
    problems.report(
        "egress-denied",
        f"the agent tried to reach what it may not: {packets} packets were refused in the last moments",
        "see what it is doing; where it should reach this, MOLTINIT_EGRESS and MOLTINIT_EGRESS_PORTS open it",
    )


def _furnish(quarters: Quarters, log: FilteringBoundLogger) -> None:
    given = quarters.furnish()
    if given.changed:
        log.info("agent.given", uid=quarters.user.uid, names=given.changed)
    if given.left:
        log.warning("agent.not_given", files=given.left[:20], hint="they have other names outside of its home")


def _front_door(
    settings: Settings,
    control: Control,
    runtime: AgentRuntime,
    user: AgentUser,
    credential: str,
    problems: Problems,
    metrics: Metrics,
    clock: Clock,
    log: FilteringBoundLogger,
    audit: AuditTrail,
) -> FrontDoor:
    # Imported here: it takes half a second, and the restore need not wait for it.
    from supervisor.http.access import AccessRules
    from supervisor.http.admin.page import AdminPage
    from supervisor.http.auth import gatekeeper
    from supervisor.http.identity import Identity
    from supervisor.http.peer import NotTheAgent
    from supervisor.http.server import FrontDoor

    def trouble(text: str) -> None:
        if text:
            problems.report(
                "access-keys", text, "people who come with a key that is known already are let in for a day"
            )
        else:
            problems.clear("access-keys")

    team = settings.access_team_domain
    return FrontDoor(
        control,
        gatekeeper(
            settings.auth,
            listen_host=settings.listen_host,
            operator_token=settings.operator_token.reveal() if settings.operator_token else None,
            public_origins=settings.public_origins,
            local_credential=credential,
            access=AccessRules(team, settings.access_audiences, settings.operators) if team else None,
            clock=clock,
            on_trouble=trouble,
        ),
        log,
        audit=audit,
        public_paths=settings.public_paths,
        identity=Identity(runtime.introduce, runtime.identity_headers, public_origins=settings.public_origins),
        refuse=NotTheAgent(user.uid if user.own else None).check,
        extend=lambda endpoints, unhurried: AdminPage(control, unhurried, clock, auth=settings.auth).add_to(endpoints),
        traffic=metrics,
    )


async def _end_strays(reaper: Reaper, log: FilteringBoundLogger) -> None:
    ended = await end_strays(reap=lambda: reaper.sweep(patience=0))
    if ended.asked:
        log.info("strays.ended", asked=ended.asked, killed=ended.killed, left=list(ended.left))


def _echo(log: FilteringBoundLogger, line: LogLine) -> None:
    log.info("agent.output", line=line.text)


def _page(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen_host, settings.listen_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.listen_port}/"
