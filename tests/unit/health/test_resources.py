from pathlib import Path

from supervisor.health.resources import Machine, Usage

MEMINFO = "MemTotal:       2048000 kB\nMemFree:  100 kB\nMemAvailable:    1024000 kB\n"
MACHINE = Usage(1024000 * 1024, 2048000 * 1024)


def machine(tmp_path: Path, **files: str) -> Machine:
    """A machine whose kernel says what `files` say; `__` in a name stands for a slash, `_` for itself."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(tmp_path, root=tmp_path)


def test_memory_is_the_machines_where_no_cgroup_limits_it(tmp_path: Path) -> None:
    assert machine(tmp_path, proc__meminfo=MEMINFO).look().memory == MACHINE


def test_a_limit_of_cgroup_version_2_counts_without_the_cache_that_goes_first(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/agents/one\n",
        sys__fs__cgroup__agents__one__memory_current="500000000\n",
        sys__fs__cgroup__agents__one__memory_max="1000000000\n",
        sys__fs__cgroup__agents__one__memory_stat="anon 5\ninactive_file 100000000\n",
    )
    assert found.look().memory == Usage(400_000_000, 1_000_000_000)


def test_in_a_container_the_own_group_is_the_root_of_the_hierarchy(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/../../outside\n",
        sys__fs__cgroup__memory_current="5",
        sys__fs__cgroup__memory_max="10",
    )
    assert found.look().memory == Usage(5, 10)


def test_a_limit_of_cgroup_version_1(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="9:memory:/docker/abc\n1:name=systemd:/x\n",
        sys__fs__cgroup__memory__docker__abc__memory_usage_in_bytes="600",
        sys__fs__cgroup__memory__docker__abc__memory_limit_in_bytes="1000",
        sys__fs__cgroup__memory__docker__abc__memory_stat="total_inactive_file 100\n",
    )
    assert found.look().memory == Usage(500, 1000)


def test_a_group_without_a_limit_says_less_than_the_machine(tmp_path: Path) -> None:
    unlimited = machine(
        tmp_path / "a",
        proc__meminfo=MEMINFO,
        sys__fs__cgroup__memory_current="500",
        sys__fs__cgroup__memory_max="max\n",
    )
    assert unlimited.look().memory == MACHINE
    first = machine(
        tmp_path / "b",
        proc__meminfo=MEMINFO,
        sys__fs__cgroup__memory__memory_usage_in_bytes="500",
        sys__fs__cgroup__memory__memory_limit_in_bytes="9223372036854771712",
    )
    assert first.look().memory == MACHINE


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    assert machine(tmp_path, proc__meminfo="nonsense\n\nMemTotal: x\n").look().memory is None


def test_the_disk_is_the_one_below_the_state_even_before_that_is_there(tmp_path: Path) -> None:
    disk = Machine(tmp_path / "not" / "yet").look().disk
    assert disk is not None
    assert 0 < disk.used <= disk.total
    assert disk.free == disk.total - disk.used


def test_the_real_machine_tells() -> None:
    memory = Machine(Path("/")).look().memory
    assert memory is not None
    assert 0 < memory.used < memory.total
