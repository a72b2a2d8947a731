"""The same attempts beside the real gateway, whose processes are looked through as well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.quarters import move_in
from supervisor.settings import load
from tests.support.cell import act, in_memory
from tests.support.daemon import life
from tests.support.s3 import Bucket

pytestmark = [pytest.mark.gateway, pytest.mark.root, pytest.mark.timeout(400)]

ATTEMPTS = (
    "look_into_ones_own_environment_and_descriptors",
    "read_the_supervisors_environment",
    "open_the_supervisors_memory",
    "follow_the_supervisors_links",
    "trace_the_supervisor",
    "take_a_descriptor_of_the_supervisor",
    "signal_the_supervisor_and_init",
    "read_the_supervisors_files",
    "ask_the_front_door_as_an_operator",
    "ask_the_front_door_from_every_address_of_the_machine",
    "become_root",
)


async def test_the_real_gateway_runs_in_the_cell_and_whoever_owns_it_gets_nothing(
    bucket: Bucket, openclaw: Path, tmp_path: Path
) -> None:
    operator = "operator-" + os.urandom(12).hex()
    keys = bucket.settings()
    secrets = (operator, keys["AWS_SECRET_ACCESS_KEY"], keys["AWS_ACCESS_KEY_ID"])
    variables = {"MOLTINIT_OPENCLAW_BIN": str(openclaw), "MOLTINIT_OPERATOR_TOKEN": operator, "MOLTINIT_AUTH": "none"}
    async with life(tmp_path / "a", bucket=keys, **variables) as daemon:
        await daemon.ready()
        before = await daemon.status()
        quarters = move_in(load(daemon.variables, cwd=tmp_path, is_root=True))
        home = Path(daemon.variables["MOLTINIT_HOME"])
        files = [home / name for name in ("daemon.json", "lock", "id", "restored.json")]
        facts = {
            "supervisor": daemon.pid,
            "port": daemon.port,
            "agent_home": str(daemon.agent_home),
            "supervisors_files": [str(path) for path in files],
            "supervisors_directories": [str(home), str(home / "logs")],
            "operator_requests": [["GET", "/status", ""], ["POST", "/api/admin/gateway/restart", "{}"]],
        }
        results = await act(quarters.cell(lambda findings: None), ATTEMPTS, facts, daemon.agent_home)
        assert {name: result["won"] for name, result in results.items()} == {name: [] for name in ATTEMPTS}
        assert not [secret for secret in secrets for one in results.values() for text in one["loot"] if secret in text]
        assert in_memory(daemon.pid, secrets, quarters.user.uid) == []
        after = await daemon.status()
        assert after["agent"] == before["agent"]
        assert after["agent"]["uid"] == quarters.user.uid != 0
        states = {entry["measure"]: entry["state"] for entry in after["isolation"]}
        off = {measure for measure, state in states.items() if state == "off"}
        assert off <= {"model-keys-brokered", "browser-brokered", "egress-filtered"}
        assert await daemon.stop() == 0
