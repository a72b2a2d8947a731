"""The back door as the rest of the daemon sees it: bound before the agent starts, served once it is imported."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import socket
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from agent_runtime.contract import Brokered, ModelEndpoint
from supervisor.broker.accounts import Accounts
from supervisor.broker.cdp import Browser
from supervisor.broker.keys import Keyring
from supervisor.broker.providers import Provider
from supervisor.clock import Clock
from supervisor.errors import SettingsError
from supervisor.init.cell.measure import Finding

if TYPE_CHECKING:
    from supervisor.broker.browser import BrowserBroker
    from supervisor.broker.server import BrokerServer

BACKLOG = 128
TOKEN_BYTES = 32


def bind(port: int, *, insist: bool) -> socket.socket:
    """A listening socket on loopback. Where `port` is taken and nobody insisted on it, any other one will do: the agent
    is told which.

    Raises `SettingsError`.
    """
    for candidate in (port,) if insist else (port, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", candidate))
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            problem = error
        else:
            return listener
    raise SettingsError(
        f"the broker cannot listen on 127.0.0.1:{port}: {problem.strerror}",
        hint="stop what uses the port, or choose another one with MOLTINIT_BROKER_PORT",
    )


class Broker:
    """Model providers and the browser, on one loopback port.

    Args:
        listener: a listening socket, which this owns.
        providers: what there is.
        browser: the agent's browser; None where there is none.
        browser_sessions, browser_idle: see `BrowserBroker`.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        providers: tuple[Provider, ...],
        keyring: Keyring,
        accounts: Accounts,
        clock: Clock,
        log: FilteringBoundLogger,
        browser: Browser | None = None,
        browser_sessions: int = 8,
        browser_idle: float = 600.0,
    ) -> None:
        self._listener = listener
        self._providers = providers
        self._keyring = keyring
        self._accounts = accounts
        self._clock = clock
        self._log = log
        self._browser = browser
        self._browser_sessions = browser_sessions
        self._browser_idle = browser_idle
        self._eyes: BrowserBroker | None = None
        # For this life alone, and in no file: another user of this machine does not get to use the broker, and what
        # was read in an old snapshot opens nothing.
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._server: BrokerServer | None = None
        self.port: int = listener.getsockname()[1]

    @property
    def access(self) -> Brokered:
        """What the agent is given."""
        return Brokered(
            url=f"http://127.0.0.1:{self.port}",
            token=self._token,
            models=tuple(
                ModelEndpoint(
                    name=provider.name,
                    api=provider.dialect.value,
                    base_url=provider.local_url(self.port),
                    model=provider.model,
                    named=provider.named,
                )
                for provider in self._providers
            ),
            browser_url=f"http://127.0.0.1:{self.port}/browser" if self._browser else None,
        )

    async def open(self) -> None:
        """Import the server and serve."""
        module = await asyncio.to_thread(importlib.import_module, "supervisor.broker.server")
        forward = importlib.import_module("supervisor.broker.forward")
        forwarder = forward.Forwarder(
            self._providers, keyring=self._keyring, accounts=self._accounts, token=self._token, log=self._log
        )
        if self._browser is not None:
            self._eyes = importlib.import_module("supervisor.broker.browser").BrowserBroker(
                self._browser,
                keyring=self._keyring,
                token=self._token,
                local=f"ws://127.0.0.1:{self.port}/browser/devtools/browser/agent",
                sessions=self._browser_sessions,
                idle=self._browser_idle,
                clock=self._clock,
                log=self._log,
            )
        server: BrokerServer = module.BrokerServer(forwarder, self._eyes, self._log)
        self._server = server
        await server.start(self._listener)

    async def close(self) -> None:
        """Stop serving; the socket is closed."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
        self._listener.close()

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Go on counting from what HEAD says of an earlier life."""
        self._accounts.resume(state)

    def usage(self) -> dict[str, Any] | None:
        """What HEAD is to say; None while it is to stay as it is."""
        return self._accounts.state()

    def watch(self) -> Coroutine[Any, Any, None]:
        """Runs beside the life."""
        return self._accounts.watch()

    def report(self) -> dict[str, Any]:
        """For `/status`: `port`, `providers` (`name, upstream, key`), `budgets`, `usage`, `refused`."""
        names = self._keyring.names()
        return {
            "port": self.port,
            "providers": [
                {
                    "name": provider.name,
                    "upstream": provider.base_url,
                    "key": all(credential.secret in names for credential in provider.credentials),
                }
                for provider in self._providers
            ],
            "browser": self._eyes.report() if self._eyes else None,
            **self._accounts.report(),
        }

    def findings(self) -> list[Finding]:
        """The measures of isolation that this stands for."""
        keys = "" if self._providers else "no key of a model provider is set: there is none to keep"
        eyes = "" if self._browser else "no browser is set (MOLTINIT_BROWSER_TOKEN, MOLTINIT_BROWSER_URL)"
        return [
            Finding("model-keys-brokered", bool(self._providers), keys),
            Finding("browser-brokered", self._browser is not None, eyes),
        ]
