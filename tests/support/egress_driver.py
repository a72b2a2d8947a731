"""Runs in a network namespace of its own: loads the filter, tries to connect as the agent and as root, prints JSON."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys

from supervisor.init.cell.measure import Finding
from supervisor.init.cell.user import AgentUser
from supervisor.init.egress.filter import Egress

AGENT = 10001
SECONDS = 3.0


def connect(uid: int, host: str, port: int) -> str:
    """How it ends, as a user, in a process of its own: `connected`, or the name of the error."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            socket.create_connection((host, port), SECONDS).close()
        except TimeoutError:
            code = errno.ETIMEDOUT
        except OSError as error:
            code = error.errno or 255
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "connected" if code == 0 else errno.errorcode.get(code, str(code))


async def main(wanted: list[str], ports: list[str], targets: list[tuple[str, int]]) -> None:
    found: list[Finding] = []
    denied: list[int] = []
    user = AgentUser(AGENT, AGENT, own=True)
    egress = Egress(user, wanted, ports=ports, observed=found.extend, denied=denied.append)
    await egress.start()
    await egress.start()  # loading it again replaces it
    result = {
        "agent": {f"{host}:{port}": connect(AGENT, host, port) for host, port in targets},
        "root": {f"{host}:{port}": connect(0, host, port) for host, port in targets},
    }
    await egress.count()
    await egress.stop()
    after = {f"{host}:{port}": connect(AGENT, host, port) for host, port in targets}
    print(
        json.dumps(
            {
                **result,
                "after": after,
                "denied": sum(denied),
                "on": [finding.on for finding in found],
                "reasons": [finding.reason for finding in found],
            }
        )
    )


if __name__ == "__main__":
    orders = json.loads(sys.argv[1])
    asyncio.run(main(orders["wanted"], orders["ports"], [tuple(one) for one in orders["targets"]]))
