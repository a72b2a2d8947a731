"""The one place where parts are made and put together, from `Settings`. Nothing is decided here.

This module is slow to import, on purpose: everything that it names is needed for a life, and `boot` has bound the
port before it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from agent_runtime.contract import AgentRuntime, AgentSettings, RuntimeFault
from agent_runtime.registry import make_runtime
from supervisor import log as logging
from supervisor.clock import Clock
from supervisor.control import Control
from supervisor.daemon_file import DaemonFile
from supervisor.health.bucket import BucketHealth
from supervisor.health.looplag import LoopLag
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.http.early import EarlyResponder
from supervisor.init.reaper import Reaper
from supervisor.init.signals import Signals
from supervisor.init.strays import end_strays
from supervisor.lifecycle import Grace, Lifecycle
from supervisor.phases import Phase, Timeline
from supervisor.process.keeper import Keeper
from supervisor.process.logs import AgentLogs
from supervisor.settings import Settings
from supervisor.snapshot.engine import Engine
from supervisor.snapshot.local import LocalDisk
from supervisor.snapshot.repository import Identity, Repository
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.snapshot.saver import Saver
from supervisor.snapshot.schedule import Pace
from supervisor.store.open import BucketLocation, open_store
from supervisor.store.protocol import Store
