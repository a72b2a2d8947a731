"""The broker, put together from settings."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from supervisor.broker.accounts import Accounts
from supervisor.broker.broker import Broker, bind
from supervisor.broker.budget import Budget, Unit, Window
from supervisor.broker.cdp import browser
from supervisor.broker.keys import Keyring, read_keys
from supervisor.broker.ledger import Ledger
from supervisor.broker.prices import Prices, read_prices
from supervisor.broker.providers import providers
from supervisor.clock import Clock
from supervisor.errors import SettingsError
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.log import Mask
from supervisor.settings import Settings
from supervisor.settings.options import ALL

KEYS = frozenset(option.name for option in ALL if option.broker and option.secret)
"""What a file of keys may hold."""


def make_broker(
    settings: Settings, *, clock: Clock, metrics: Metrics, problems: Problems, log: FilteringBoundLogger, mask: Mask
) -> Broker:
    """The broker, listening but not serving yet. Raises `SettingsError`."""
    own = settings.broker
    keys = {name: value.reveal() for name, value in own.keys.items()}
    if own.keys_file is not None:
        if own.keys_file.is_relative_to(settings.agent_home):
            raise SettingsError(
                f"MOLTINIT_KEYS_FILE ({own.keys_file}) lies in the agent's home ({settings.agent_home})",
                hint="the agent would read and rewrite it, and every snapshot would hold it: put it elsewhere",
            )
        keys |= read_keys(own.keys_file, KEYS)
    budget = Budget(
        {(Unit(unit), Window(window)): limit for (unit, window), limit in own.budget.items()},
        soft=own.budget_soft,
        clock=clock,
    )
    prices = read_prices(own.prices) if own.prices else Prices({})
    return Broker(
        bind(own.port, insist=own.insist),
        providers=providers({**own.variables, **keys}),
        keyring=Keyring(
            keys,
            file=own.keys_file,
            known=KEYS,
            clock=clock,
            problems=problems,
            learn=mask.learn,
        ),
        accounts=Accounts(budget, Ledger(budget, prices, clock), clock=clock, metrics=metrics, problems=problems),
        clock=clock,
        log=log,
        browser=browser({**own.variables, **keys}),
        browser_sessions=own.browser_sessions,
        browser_idle=own.browser_idle,
    )
