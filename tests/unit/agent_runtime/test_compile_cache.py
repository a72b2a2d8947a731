"""With a Node that is a shell script: what matters is how it names things, and that only speed is at stake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_runtime.openclaw.compile_cache import loaded_by_a_start, use
from agent_runtime.openclaw.program import Program
from supervisor.init.cell.home import Passage
from supervisor.init.cell.rights import Rights
from supervisor.init.cell.user import AgentUser

AGENT = (54321, 54322)
PLACES = (".", "openclaw/2026.9.6/17-42")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "opt"
    package = home / "node_modules" / "openclaw"
    package.mkdir(parents=True)
    for place in PLACES:
        (home / "compile-cache" / "node" / place / "code").mkdir(parents=True)
    node = tmp_path / "node"
    node.write_text(
        f'#!/bin/sh\necho $(id -u) $(id -g) $(id -G) >> {tmp_path}/asked\nmkdir "$3/v24-x64-cafe-$(id -u)"\n'
    )
    node.chmod(0o755)
    return Program(node, package / "openclaw.mjs", package)


def test_each_place_gets_a_link_under_the_name_that_node_asks_for(program: Program, tmp_path: Path) -> None:
    cache = tmp_path / "scratch" / "cache"
    assert use(program, cache, os.getuid())
    for place in PLACES:
        link = cache / place / f"v24-x64-cafe-{os.getuid()}"
        assert link.is_symlink()
        assert link.resolve() == tmp_path / "opt" / "compile-cache" / "node" / place / "code"
    assert os.listdir(cache.parent) == ["cache"]


@pytest.mark.root
def test_the_agents_node_is_asked_as_the_agent_and_leaves_nothing(program: Program, tmp_path: Path) -> None:
    assert Passage(AgentUser(*AGENT, own=True)).open(tmp_path / "node") is None
    (tmp_path / "asked").touch()
    (tmp_path / "asked").chmod(0o666)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    os.chown(scratch, *AGENT)
    with Rights(AGENT).taken():
        assert use(program, scratch / "cache", *AGENT)
    assert os.readlink(scratch / "cache" / f"v24-x64-cafe-{AGENT[0]}")
    assert os.listdir(scratch) == ["cache"]
    assert (tmp_path / "asked").read_text() == f"{AGENT[0]} {AGENT[1]} {AGENT[1]}\n", "no group of root's"


def test_node_is_asked_once_a_vm(program: Program, tmp_path: Path) -> None:
    for _ in range(3):
        assert use(program, tmp_path / "cache", os.getuid())
    assert (tmp_path / "asked").read_text().count("\n") == 1


def test_a_cache_of_the_vms_own_is_left_alone(program: Program, tmp_path: Path) -> None:
    own = tmp_path / "cache" / f"v24-x64-cafe-{os.getuid()}"
    own.mkdir(parents=True)
    assert use(program, tmp_path / "cache", os.getuid())
    assert not own.is_symlink()


@pytest.mark.parametrize("script", ["exit 1", "exit 0", "mkdir $3/strange"])
def test_a_node_that_does_not_say_costs_only_speed(program: Program, tmp_path: Path, script: str) -> None:
    program.node.write_text(f"#!/bin/sh\n{script}\n")
    assert not use(program, tmp_path / "cache", os.getuid())


def test_without_an_image_there_is_nothing_to_use(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "openclaw"
    package.mkdir(parents=True)
    program = Program(tmp_path / "node", package / "openclaw.mjs", package)
    assert not use(program, tmp_path / "cache", os.getuid())
    assert loaded_by_a_start(program) == ()
