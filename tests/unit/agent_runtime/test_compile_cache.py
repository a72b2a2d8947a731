"""With a Node that is a shell script: what matters is how it names things, and that only speed is at stake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_runtime.openclaw.compile_cache import loaded_by_a_start, use
from agent_runtime.openclaw.program import Program

PLACES = (".", "openclaw/2026.9.6/17-42")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "opt"
    package = home / "node_modules" / "openclaw"
    package.mkdir(parents=True)
    for place in PLACES:
        (home / "compile-cache" / "node" / place / "code").mkdir(parents=True)
    node = tmp_path / "node"
    node.write_text(f'#!/bin/sh\necho asked >> {tmp_path}/asked\n/bin/mkdir "$3/v24-x64-cafe-{os.getuid()}"\n')
    node.chmod(0o755)
    return Program(node, package / "openclaw.mjs", package)


def test_each_place_gets_a_link_for_each_user_under_the_name_that_node_asks_for(
    program: Program, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert use(program, cache, {0, 10001})
    for place in PLACES:
        for user in (0, 10001):
            link = cache / place / f"v24-x64-cafe-{user}"
            assert link.is_symlink()
            assert link.resolve() == tmp_path / "opt" / "compile-cache" / "node" / place / "code"


def test_node_is_asked_once_a_vm(program: Program, tmp_path: Path) -> None:
    for _ in range(3):
        assert use(program, tmp_path / "cache", {0})
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_cache_of_the_vms_own_is_left_alone(program: Program, tmp_path: Path) -> None:
    own = tmp_path / "cache" / "v24-x64-cafe-0"
    own.mkdir(parents=True)
    assert use(program, tmp_path / "cache", {0})
    assert not own.is_symlink()


@pytest.mark.parametrize("script", ["exit 1", "exit 0", "/bin/mkdir $3/strange"])
def test_a_node_that_does_not_say_costs_only_speed(program: Program, tmp_path: Path, script: str) -> None:
    program.node.write_text(f"#!/bin/sh\n{script}\n")
    assert not use(program, tmp_path / "cache", {0})


def test_without_an_image_there_is_nothing_to_use(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "openclaw"
    package.mkdir(parents=True)
    program = Program(tmp_path / "node", package / "openclaw.mjs", package)
    assert not use(program, tmp_path / "cache", {0})
    assert loaded_by_a_start(program) == ()
