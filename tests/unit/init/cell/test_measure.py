from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.init.cell.measure import Finding, measure
from supervisor.init.cell.user import AgentUser, same_user

AGENT = AgentUser(10001, 10002, own=True)
STATUS = {
    "Uid": "10001\t10001\t10001\t10001",
    "Gid": "10002\t10002\t10002\t10002",
    "Groups": "",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
}


def found(
    tmp_path: Path,
    changed: Mapping[str, str] | None = None,
    *,
    environ: bytes = b"HOME=/h\0",
    report: Mapping[str, object] | None = None,
    user: AgentUser = AGENT,
    hard: bool = True,
    cores: str = "0",
) -> dict[str, Finding]:
    process = tmp_path / "7"
    process.mkdir(exist_ok=True)
    status = {**STATUS, **(changed or {})}
    (process / "status").write_text("".join(f"{name}:\t{value}\n" for name, value in status.items()))
    (process / "environ").write_bytes(environ)
    (process / "limits").write_text(f"Limit  Soft Limit\nMax core file size        {cores}    {cores}     bytes\n")
    findings = measure(
        7,
        user,
        {"landlock": 7} if report is None else report,
        environment={"HOME": "/h"},
        secrets=["s3cret-key"],
        hard=hard,
        proc=tmp_path,
    )
    return {finding.measure: finding for finding in findings}


def test_a_process_that_is_locked_in_has_every_measure_on(tmp_path: Path) -> None:
    assert {finding.on for finding in found(tmp_path).values()} == {True}


@pytest.mark.parametrize(
    ("measure", "changed"),
    [
        ("own-user", {"Uid": "0\t0\t0\t0"}),
        ("own-user", {"Uid": "10001\t0\t10001\t10001"}),
        ("own-user", {"Groups": "0 27"}),
        ("no-capabilities", {"CapEff": "0000000000200000"}),
        ("no-capabilities", {"CapAmb": "0000000000000001"}),
        ("no-capabilities", {"CapBnd": "000001ffffffffff", "NoNewPrivs": "0"}),
        ("no-new-privileges", {"NoNewPrivs": "0"}),
    ],
)
def test_what_the_process_says_counts(tmp_path: Path, measure: str, changed: dict[str, str]) -> None:
    finding = found(tmp_path, changed)[measure]
    assert not finding.on
    assert finding.reason


def test_a_kernel_without_landlock_is_told_with_what_to_do(tmp_path: Path) -> None:
    finding = found(tmp_path, report={"landlock": 0, "landlock_error": "Function not implemented"})["landlock"]
    assert (finding.on, "Function not implemented" in finding.reason) == (False, True)
    assert "lsm=landlock" in finding.hint


def test_an_old_landlock_is_on_and_says_what_it_lacks(tmp_path: Path) -> None:
    finding = found(tmp_path, report={"landlock": 4})["landlock"]
    assert finding.on
    assert "signals" in finding.reason


def test_a_variable_that_nobody_gave_is_seen(tmp_path: Path) -> None:
    finding = found(tmp_path, environ=b"HOME=/h\0EXTRA_KEY=1\0")["clean-environment"]
    assert not finding.on
    assert "EXTRA_KEY" in finding.reason


def test_a_key_of_the_bucket_in_the_environment_is_seen(tmp_path: Path) -> None:
    assert not found(tmp_path, environ=b"HOME=s3cret-key\0")["bucket-keys-hidden"].on


def test_without_a_user_of_its_own_and_without_landlock_the_keys_are_not_hidden(tmp_path: Path) -> None:
    assert not found(tmp_path, user=same_user("x"), report={"landlock": 0})["bucket-keys-hidden"].on
    assert found(tmp_path, user=same_user("x"))["bucket-keys-hidden"].on


def test_core_files_and_a_supervisor_that_can_be_looked_into_are_seen(tmp_path: Path) -> None:
    assert not found(tmp_path, cores="unlimited")["resource-limits"].on
    assert not found(tmp_path, hard=False)["supervisor-not-dumpable"].on


def test_a_process_that_is_gone_has_nothing_on(tmp_path: Path) -> None:
    findings = measure(99, AGENT, {}, environment={}, secrets=[], hard=True, proc=tmp_path)
    assert {finding.on for finding in findings if finding.measure != "supervisor-not-dumpable"} == {False}
