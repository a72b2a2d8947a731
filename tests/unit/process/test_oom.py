from __future__ import annotations

from pathlib import Path

from supervisor.process.oom import oom_kills


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_count_comes_from_the_unified_hierarchy(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "0::/box\n")
    put(tmp_path / "cg/box/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == 3


def test_the_count_comes_from_the_memory_hierarchy_of_old(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/box\n")
    put(tmp_path / "cg/memory/box/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == 2


def test_without_cgroups_the_whole_machine_is_counted(tmp_path: Path) -> None:
    put(tmp_path / "proc/vmstat", "nr_free_pages 1\noom_kill 7\n")
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == 7


def test_a_kernel_that_does_not_say_is_not_zero(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path) is None


def test_in_a_container_its_own_group_lies_at_the_top(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "4:memory:/pods/of/the/host\n")
    put(tmp_path / "cg/memory/memory.oom_control", "oom_kill 5\n")
    put(tmp_path / "proc/vmstat", "oom_kill 700\n")
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == 5
