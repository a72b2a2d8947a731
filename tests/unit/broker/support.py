"""A broker with real providers behind it, all on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from supervisor.broker.accounts import Accounts
from supervisor.broker.broker import Broker, bind
from supervisor.broker.budget import Budget, Key
from supervisor.broker.cdp import Browser
from supervisor.broker.keys import Keyring
from supervisor.broker.ledger import Ledger
from supervisor.broker.prices import Prices
from supervisor.broker.providers import Provider, providers
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from tests.support.clock import FakeClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEY = "sk-the-real-key-0123456789abcdef"
VARIABLES = {
    "ANTHROPIC_API_KEY": KEY,
    "OPENAI_API_KEY": KEY,
    "OPENROUTER_API_KEY": KEY,
    "GEMINI_API_KEY": KEY,
    "WORKERS_AI_API_TOKEN": KEY,
    "WORKERS_AI_MODEL": "@cf/meta/llama",
    "CF_ACCOUNT_ID": "0" * 32,
    "MOLTINIT_MODEL_URL": "http://127.0.0.1:1/v1",
    "MOLTINIT_MODEL_KEY": KEY,
    "MOLTINIT_MODEL_NAME": "qwen",
    "CLOUDFLARE_AI_GATEWAY_API_KEY": KEY,
    "CF_AI_GATEWAY_TOKEN": "the-gateways-own-token-0123",
    "CF_AI_GATEWAY_ACCOUNT_ID": "1" * 32,
    "CF_AI_GATEWAY_GATEWAY_ID": "mine",
    "AI_GATEWAY_API_KEY": KEY,
    "AI_GATEWAY_BASE_URL": "http://127.0.0.1:1/legacy/anthropic",
}


@asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[str]:
    """A provider; yields its URL."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "http://127.0.0.1:{1}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


class Rig:
    """The broker, and a client that stands for the agent."""

    def __init__(
        self, broker: Broker, accounts: Accounts, problems: Problems, metrics: Metrics, clock: FakeClock
    ) -> None:
        self.broker = broker
        self.accounts = accounts
        self.problems = problems
        self.metrics = metrics
        self.clock = clock
        self.token = broker.access.token
        self.url = broker.access.url
        self.events: list[str] = []
        self.client = aiohttp.ClientSession()

    async def ask(
        self, path: str, document: object = None, *, method: str = "POST", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON (or text) and headers of one request with the agent's token."""
        sent = {"x-api-key": self.token, **(headers or {})}
        async with self.client.request(method, self.url + path, json=document, headers=sent) as answer:
            body = await answer.read()
            try:
                return answer.status, json.loads(body), answer.headers
            except ValueError:
                return answer.status, body.decode(), answer.headers

    async def usage(self) -> list[dict[str, Any]]:
        """The rows of the ledger, once the last request has been entered."""
        await asyncio.sleep(0)
        rows: list[dict[str, Any]] = self.accounts.report()["usage"]
        return rows


@asynccontextmanager
async def rig(
    url: str,
    *,
    limits: Mapping[Key, float] | None = None,
    prices: Prices | None = None,
    keys_file: Path | None = None,
    variables: Mapping[str, str] = VARIABLES,
    clock: FakeClock | None = None,
    browser: Browser | None = None,
    browser_sessions: int = 8,
    browser_idle: float = 600.0,
) -> AsyncIterator[Rig]:
    """A broker whose every provider is at `url`, below its own name."""
    clock = clock or FakeClock()
    problems = Problems(clock)
    metrics = Metrics(problems=lambda: (), loop_lag_seconds=lambda: 0.0)
    budget = Budget(limits or {}, soft=0.8, clock=clock)
    accounts = Accounts(
        budget, Ledger(budget, prices or Prices({}), clock), clock=clock, metrics=metrics, problems=problems
    )
    accounts.resume(None)
    events: list[str] = []

    def record(logger: object, method: str, event: Any) -> Any:
        events.append(repr(event))
        raise structlog.DropEvent

    broker = Broker(
        bind(0, insist=True),
        providers=tuple(_moved(provider, url) for provider in providers(variables)),
        keyring=Keyring(
            {name: value for name, value in variables.items() if name.endswith(("KEY", "TOKEN", "SECRET"))},
            file=keys_file,
            known=frozenset(VARIABLES),
            clock=clock,
            problems=problems,
        ),
        accounts=accounts,
        clock=clock,
        browser=browser,
        browser_sessions=browser_sessions,
        browser_idle=browser_idle,
        log=structlog.wrap_logger(None, processors=[record], wrapper_class=structlog.BoundLogger),
    )
    await broker.open()
    made = Rig(broker, accounts, problems, metrics, clock)
    made.events = events
    try:
        yield made
    finally:
        await made.client.close()
        await broker.close()


def _moved(provider: Provider, url: str) -> Provider:
    return replace(provider, base_url=f"{url}/{provider.name}")
