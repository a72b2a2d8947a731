"""The last thing that runs before the agent's program, in its process: it locks itself in, then becomes the program.

Stand-alone and of the standard library alone, run with `python -I -S` (30 ms): code between fork and exec in a process
with threads could not do this safely. It reads one JSON document from the descriptor that its first argument names,
tells what came of it on the one that its second argument names (closed by a successful exec), and keeps its process id.

What is wanted and cannot be had ends it with 126, before the program runs; the one exception is Landlock, which not
every kernel has: its absence is told, and shown by whoever reads.
"""

import contextlib
import ctypes
import json
import os
import resource
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing

EXIT_CANNOT_ENTER = 126

SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
ALL_OF_ABI_1 = (1 << 13) - 1
MAKE_DEVICES = 1 << 6 | 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1

FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What a rule on something that is no directory may grant."""

PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 28, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
NO_ROOT_LOCKED = 0b11 | 1 << 5 | 0b11 << 6
"""Being root gives no capabilities at exec; none are kept over a change of user, none become ambient; for good."""
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    policy_fd, report_fd = int(sys.argv[1]), int(sys.argv[2])
    report: dict[str, object] = {}
    try:
        with open(policy_fd, encoding="utf-8") as file:
            policy = json.load(file)
        os.set_inheritable(report_fd, False)
        environment = _environment()
        report.update(_lock_in(policy))
        os.write(report_fd, json.dumps(report).encode() + b"\n")
        os.execve(policy["argv"][0], policy["argv"], environment)
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
        report["error"] = what
    except Exception as error:
        report["error"] = f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        os.write(report_fd, json.dumps(report).encode() + b"\n")
    os._exit(EXIT_CANNOT_ENTER)


def _lock_in(policy: "dict[str, typing.Any]") -> "dict[str, object]":
    os.umask(policy["umask"])
    for name, value in policy["limits"].items():
        _limit(getattr(resource, name), value)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(policy["oom_score_adj"]))
    # Opened with the rights of whoever started us: the way to a rule's path may be closed to the agent.
    ruleset, report = _ruleset(policy["writes"], policy["reads"])
    _give_up_privileges(policy["uid"], policy["gid"])
    if ruleset is not None:
        if libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
            report = {"landlock": 0, "landlock_error": os.strerror(ctypes.get_errno())}
        os.close(ruleset)
    os.chdir(policy["directory"])
    return report


def _environment() -> "dict[bytes, bytes]":
    """As it was given: Python adds a variable of its own where there is no locale."""
    with open("/proc/self/environ", "rb") as file:
        items = (item.partition(b"=") for item in file.read().split(b"\0") if item)
        return {name: value for name, _, value in items}


def _limit(which: int, value: int) -> None:
    """Never above what is allowed already."""
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _give_up_privileges(uid: "int | None", gid: "int | None") -> None:
    privileged = os.geteuid() == 0
    if privileged:
        capability = 0
        while libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
            capability += 1
        if capability == 0:  # without CAP_SETPCAP the set stays; no_new_privs makes it useless
            _check(ctypes.get_errno() == 1, "drop the bounding set")
        elif libc.prctl(PR_SET_SECUREBITS, NO_ROOT_LOCKED, 0, 0, 0) != 0:
            _check(False, "set the securebits")
    if uid is not None and gid is not None and privileged:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, bytes(24)) == 0, "give up the capabilities")
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "set no_new_privs")


def _ruleset(writes: "list[str]", reads: "list[str]") -> "tuple[int | None, dict[str, object]]":
    """A Landlock ruleset (kernel.org, userspace-api/landlock): all that is not granted below is refused."""
    abi = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if abi < 1:
        return None, {"landlock": 0, "landlock_error": os.strerror(ctypes.get_errno())}
    handled = ALL_OF_ABI_1 | (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0) | (IOCTL_DEV if abi >= 5 else 0)
    scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= 6 else 0
    attributes = struct.pack("=QQQ", handled, 0, scoped)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    _check(ruleset >= 0, "make a Landlock ruleset")
    missing = []
    for paths, access in ((reads, EXECUTE | READ_FILE | READ_DIR), (writes, handled & ~MAKE_DEVICES)):
        for path in paths:
            if not _grant(ruleset, path, access & handled):
                missing.append(path)
    return ruleset, {"landlock": abi, "missing": missing}


def _grant(ruleset: int, path: str, access: int) -> bool:
    """Not where a link lies on the way: paths were resolved when the orders were given, so somebody put it there since,
    and it may lead anywhere."""
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        kind = os.fstat(fd).st_mode & 0o170000
        if kind == 0o120000 or os.readlink(f"/proc/self/fd/{fd}") != path:
            return False
        is_directory = kind == 0o040000
        rule = struct.pack("=Qi", access if is_directory else access & FOR_FILES, fd)
        done: bool = libc.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0) == 0
        return done
    finally:
        os.close(fd)


def _check(good: bool, what: str) -> None:
    if not good:
        raise OSError(ctypes.get_errno(), f"cannot {what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
