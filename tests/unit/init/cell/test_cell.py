from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_runtime.contract import LaunchSpec
from supervisor.init.cell import paths
from supervisor.init.cell.cell import Cell, Limits
from supervisor.init.cell.measure import Finding
from supervisor.init.cell.user import AgentUser, same_user
from supervisor.init.reaper import Children
from supervisor.process.child import Child

AGENT = AgentUser(54321, 54321, own=True)


async def run(
    cell: Cell, script: str, directory: Path = Path("/"), writes: tuple[Path, ...] = (), **environment: str
) -> list[str]:
    """What a shell script in the cell says."""
    said = bytearray()
    spec = LaunchSpec(("/bin/sh", "-c", script), {"PATH": os.defpath, **environment}, directory, writes=writes)
    child = Child.spawn(spec, output=said.extend, children=Children(), cell=cell)
    try:
        report = await child.entered()
        assert "error" not in report, report
        cell.look(child.pid, spec, report)
        await child.wait()
    finally:
        await child.clear()
    return said.decode().splitlines()


def cell(user: AgentUser, own: Sequence[Path] = (), hidden: Sequence[Path] = (), **more: object) -> Cell:
    return Cell(user, own=own, hidden=hidden, **more)  # type: ignore[arg-type]


async def test_the_program_keeps_the_process_id_that_was_started() -> None:
    said = bytearray()
    child = Child.spawn(
        LaunchSpec(("/bin/sh", "-c", "echo $$"), {}, Path("/")),
        output=said.extend,
        children=Children(),
        cell=cell(same_user("a test")),
    )
    await child.wait()
    await child.clear()
    assert int(said) == child.pid


async def test_its_environment_is_what_it_was_given_and_nothing_else() -> None:
    said = await run(cell(same_user("a test")), "env", ONE="1")
    names = {line.partition("=")[0] for line in said}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "ONE"}  # those are the shell's own


async def test_it_inherits_no_descriptor_but_the_three() -> None:
    look = "n=0; while [ $n -lt 64 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done"
    assert await run(cell(same_user("a test")), look) == ["0", "1", "2"]


async def test_no_privilege_can_be_gained_no_core_is_written_and_it_dies_before_the_supervisor() -> None:
    said = await run(
        cell(same_user("a test"), limits=Limits(files=77)),
        "grep -E 'NoNewPrivs|CapEff|CapPrm|CapInh|CapAmb' /proc/self/status; ulimit -c; ulimit -n; umask;"
        "cat /proc/self/oom_score_adj",
    )
    assert said == [
        *(f"{name}:\t0000000000000000" for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")),
        *("NoNewPrivs:\t1", "0", "77", "0077", "500"),
    ]


async def test_it_writes_its_own_directories_only(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    script = f"echo in > {own}/file && echo wrote; echo in > {other}/file || echo refused"
    said = await run(cell(same_user("a test"), own=[own], hidden=[tmp_path]), script, own)
    assert "wrote" in said
    assert said[-1] == "refused"
    assert not (other / "file").exists()


async def test_what_is_hidden_cannot_be_read_though_the_agents_directory_lies_inside(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "secret").write_text("a secret")
    look = f"cat {tmp_path}/secret; ls {tmp_path}"
    said = await run(cell(same_user("a test"), own=[own], hidden=[tmp_path]), look, own)
    assert "a secret" not in said
    assert "own" not in said


async def test_what_its_user_may_read_elsewhere_is_out_of_sight(tmp_path: Path) -> None:
    (tmp_path / "open.txt").write_text("not its business")
    assert "not its business" not in await run(cell(same_user("a test"), hidden=[tmp_path]), f"cat {tmp_path}/open.txt")


async def test_further_paths_are_the_operators_will(tmp_path: Path) -> None:
    reads, writes = tmp_path / "reads", tmp_path / "writes"
    for directory in (reads, writes):
        directory.mkdir()
        (directory / "file").write_text("content\n")
    script = f"cat {reads}/file {writes}/file; echo more >> {writes}/file; echo more >> {reads}/file || echo refused"
    said = await run(cell(same_user("a test"), hidden=[tmp_path / "other"], reads=[reads], writes=[writes]), script)
    assert said[:2] == ["content", "content"]
    assert said[-1] == "refused"
    assert (writes / "file").read_text() == "content\nmore\n"


async def test_a_link_in_place_of_a_directory_that_its_program_asks_for_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, target = tmp_path / "shared", tmp_path / "target"
    for directory in (shared, target):
        directory.mkdir()
    monkeypatch.setattr(paths, "SHARED", (str(shared),))
    (shared / "locks").symlink_to(target)
    script = f"echo in > {shared}/file && echo wrote; echo in > {target}/file || echo refused"
    held = cell(same_user("a test"), writes=[shared / "locks"])
    for one in (held, cell(same_user("a test"))):
        said = await run(one, script, writes=(shared / "locks",))
        assert said[0] == "wrote"
        assert said[-1] == "refused"
    assert list(target.iterdir()) == []


class _Swapped(Cell):
    """Somebody is quick: between the orders and the entrance, there is a link where a directory was."""

    def swap(self, place: Path, target: Path) -> None:
        self.place, self.target = place, target

    def orders(self, spec: LaunchSpec) -> bytes:
        orders = super().orders(spec)
        self.place.rename(self.place.with_name("moved"))
        self.place.symlink_to(self.target)
        return orders


@pytest.mark.parametrize("place", ["own", "own/inner"], ids=["the last name", "a name on the way"])
async def test_a_link_that_appears_after_the_orders_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(paths, "SHARED", ())
    (tmp_path / "own" / "inner").mkdir(parents=True)
    (tmp_path / "target" / "inner").mkdir(parents=True)
    held = _Swapped(same_user("a test"), own=[], hidden=[], writes=[tmp_path / place])
    held.swap(tmp_path / "own", tmp_path / "target")
    said = await run(held, f"for d in . inner; do echo in > {tmp_path}/target/$d/file || echo refused; done")
    assert said.count("refused") == 2
    assert [path for path in (tmp_path / "target").rglob("*") if path.is_file()] == []


async def test_it_does_not_reach_processes_outside_by_signals() -> None:
    outside = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        said = await run(cell(same_user("a test")), f"kill -0 {outside.pid} && echo reached || echo refused")
        assert said[-1] == "refused"
    finally:
        outside.kill()
        await outside.wait()


async def test_a_program_that_cannot_run_is_told_by_the_entrance() -> None:
    spec = LaunchSpec(("/nowhere/agent",), {}, Path("/"))
    child = Child.spawn(spec, output=lambda data: None, children=Children(), cell=cell(same_user("a test")))
    assert (await child.entered())["error"] == "No such file or directory: /nowhere/agent"
    assert await child.wait() == 126
    await child.clear()


async def test_a_directory_that_cannot_be_entered_is_told_by_the_entrance() -> None:
    spec = LaunchSpec(("/bin/true",), {}, Path("/nowhere"))
    child = Child.spawn(spec, output=lambda data: None, children=Children(), cell=cell(same_user("a test")))
    assert (await child.entered())["error"] == "No such file or directory: /nowhere"
    await child.wait()
    await child.clear()


async def test_orders_carry_no_environment() -> None:
    spec = LaunchSpec(("/bin/true",), {"KEY": "a secret"}, Path("/"))
    assert "a secret" not in json.dumps(json.loads(cell(same_user("a test")).orders(spec)))


@pytest.mark.root
async def test_as_root_the_agent_is_another_user_without_any_group_or_capability() -> None:
    said = await run(cell(AGENT), "id -u; id -g; grep -E '^(Groups|CapBnd|Uid)' /proc/self/status")
    assert said[:2] == ["54321", "54321"]
    assert "CapBnd:\t0000000000000000" in said
    assert "Uid:\t54321\t54321\t54321\t54321" in said
    assert "".join(line for line in said if line.startswith("Groups")).split() == ["Groups:"]


@pytest.mark.root
async def test_root_that_stays_root_cannot_do_what_root_can() -> None:
    said = await run(cell(same_user("a test")), "grep CapBnd /proc/self/status; chown 1 /dev/shm 2>&1 || echo refused")
    assert said[0] == "CapBnd:\t0000000000000000"
    assert said[-1] == "refused"


@pytest.mark.root
async def test_a_fork_bomb_ends_at_the_limit() -> None:
    said = await run(
        cell(AGENT, limits=Limits(processes=20)),
        "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done 2>/dev/null; echo $i",
    )
    assert not said or int(said[-1]) < 60


async def test_what_holds_it_in_is_measured_on_the_process() -> None:
    found: list[Finding] = []
    held = cell(same_user("a test", "be root"), secrets=["s3cret-key"], observed=found.extend)
    spec = LaunchSpec(("/bin/sleep", "60"), {}, Path("/"))
    child = Child.spawn(spec, output=lambda data: None, children=Children(), cell=held)
    try:
        held.look(child.pid, spec, await child.entered())
    finally:
        await child.clear()
    on = {finding.measure: finding.on for finding in found}
    assert on["no-capabilities"]
    assert on["no-new-privileges"]
    assert on["resource-limits"]
    assert on["clean-environment"]
    assert Finding("own-user", False, "a test", "be root") in found
