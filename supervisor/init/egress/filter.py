"""The packet filter while the daemon lives: loaded before the agent starts, counted, removed at the end.

The rules are those of the network namespace that the daemon runs in, the VM's own. Where there is no nft, or no right
to use it, nothing is filtered and somebody is told why.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import shutil
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from supervisor.init.cell.measure import Finding
from supervisor.init.cell.user import AgentUser
from supervisor.init.egress.rules import OPEN, PUBLIC, TABLE, Address, Policy, ruleset

MEASURE = "egress-filtered"
POLL_SECONDS = 15.0
RESOLVE_SECONDS = 300.0
"""An allow-list of hosts is resolved again so often; addresses that a name no longer has are then refused."""
NFT_SECONDS = 10.0
RESOLV_CONF = Path("/etc/resolv.conf")
PLACES = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"


class Egress:
    """One daemon's rules.

    Args:
        wanted: `public`, `open`, or hosts and addresses.
        ports: loopback ports that the agent may connect to.
        observed: told whether the filter is on.
        denied: told how many packets were refused since the last time.
    """

    def __init__(
        self,
        user: AgentUser,
        wanted: Sequence[str],
        *,
        ports: Sequence[str],
        observed: Callable[[Sequence[Finding]], None],
        denied: Callable[[int], None],
        table: str = TABLE,
    ) -> None:
        self._user = user
        self._wanted = tuple(wanted)
        self._ports = tuple(ports)
        self._observed = observed
        self._denied = denied
        self._table = table
        self._counted = 0
        self._on = False

    async def start(self) -> None:
        """Load the rules. Never raises for a machine that cannot: the finding says why."""
        finding = await self._load()
        if not finding.on and self._user.own:
            with contextlib.suppress(OSError):  # what a daemon left that was killed; a rule may name the same user
                await self._nft(f"table inet {self._table} {{}}\ndelete table inet {self._table}\n")
        self._on = finding.on
        self._observed([finding])

    async def _load(self) -> Finding:
        if self._wanted == (OPEN,):
            return Finding(MEASURE, False, "MOLTINIT_EGRESS is 'open'")
        if not self._user.own:
            return Finding(MEASURE, False, "the agent has no user of its own that rules could name")
        try:
            await self._nft(ruleset(await self._policy(), self._table))
        except FileNotFoundError:
            why = "there is no nft, which sets the rules"
            return Finding(MEASURE, False, why, "install nftables (apt-get install nftables)")
        except OSError as error:
            return Finding(
                MEASURE, False, f"the rules cannot be set: {error}", "the VM needs CAP_NET_ADMIN and nf_tables"
            )
        return Finding(MEASURE, True)

    async def _policy(self) -> Policy:
        allowed: Collection[Address] | None = None
        if self._wanted != (PUBLIC,):
            allowed = await resolve(self._wanted)
        return Policy(self._user.uid, self._ports, resolvers(), allowed)

    async def run(self) -> None:
        """Count what is refused, and keep an allow-list's addresses current, until cancelled."""
        waited = 0.0
        while self._on:
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
            await self.count()
            if self._wanted != (PUBLIC,) and waited >= RESOLVE_SECONDS:
                waited = 0.0
                await self.start()

    async def count(self) -> None:
        """Tell how many packets were refused since the last time; that there is no table any more is told as well."""
        try:
            answer = json.loads(await self._run("-j", "list", "counter", "inet", self._table, "denied"))
            packets = next(int(one["counter"]["packets"]) for one in answer["nftables"] if "counter" in one)
        except (OSError, ValueError, KeyError, StopIteration):
            # Somebody flushed the ruleset: ours belongs there.
            self._counted = 0
            await self.start()
            return
        if packets > self._counted:
            self._denied(packets - self._counted)
        self._counted = packets

    async def stop(self) -> None:
        """Take the rules away."""
        if self._on:
            self._on = False
            with contextlib.suppress(OSError):
                await self._nft(f"delete table inet {self._table}")

    async def _nft(self, commands: str) -> None:
        await self._run("-f", "-", given=commands)

    async def _run(self, *arguments: str, given: str = "") -> str:
        program = shutil.which("nft", path=PLACES)
        if program is None:
            raise FileNotFoundError("nft")
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": PLACES, "LC_ALL": "C"},
        )
        try:
            async with asyncio.timeout(NFT_SECONDS):
                out, err = await process.communicate(given.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise OSError(f"nft did not answer within {NFT_SECONDS:g} s") from None
        if process.returncode != 0:
            raise OSError(err.decode("utf-8", "replace").strip().splitlines()[0][:200] if err else "nft failed")
        return out.decode("utf-8", "replace")


def resolvers(path: Path = RESOLV_CONF) -> set[Address]:
    """The name servers of this machine (resolv.conf(5))."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    found: set[Address] = set()
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.add(ipaddress.ip_address(words[1].partition("%")[0]))
    return found


async def resolve(hosts: Sequence[str]) -> set[Address]:
    """The addresses of these hosts now; a host that has none right now is tried again later."""
    loop = asyncio.get_running_loop()
    found: set[Address] = set()
    for host in hosts:
        try:
            found.add(ipaddress.ip_address(host))
            continue
        except ValueError:
            pass
        with contextlib.suppress(OSError):
            rows = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found |= {ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows}
    return found
