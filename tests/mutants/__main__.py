"""`python -m tests.mutants [NAME ...]`: plant a bug in a copy of the project, run the tests that should see it.

A bug that nobody notices is a hole in the tests, and ends this with 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SNAPSHOT = "supervisor/snapshot"
COPIED = ("supervisor", "agent_runtime", "tests", "docs", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Mutant:
    """In `file`, every `old` becomes `new`; `tests` (arguments of pytest, or a module to run) must fail."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    module: bool = False


HTTP, HTTP_TESTS = "supervisor/http", "tests/unit/http"
ENGINE = ("tests/unit/snapshot/test_engine.py",)
MUTANTS = (
    Mutant(
        "HEAD is written before the manifest",
        f"{SNAPSHOT}/snapshotter.py",
        (
            ("uploads.put_soon(key, encoded)", "self._late = (key, encoded)"),
            (
                "            self._commit_state(captured",
                "            await self._store.put(*self._late)\n            self._commit_state(captured",
            ),
        ),
        ("tests.fault.crash.runner", "1", "snapshot"),
        module=True,
    ),
    Mutant(
        "the epoch is ignored",
        f"{SNAPSHOT}/claim.py",
        (("if head.epoch != self._epoch or head.writer.boot != self._identity.boot:", "if False:"),),
        (*ENGINE, "tests/unit/snapshot/test_handover.py"),
    ),
    Mutant(
        "an Access token may name its algorithm",
        f"{HTTP}/access_jwt.py",
        (('    if header.get("alg") not in ALGORITHMS:', "    if False:"), ('["RS256"]', '["RS256", "RS512"]')),
        (f"{HTTP_TESTS}/test_access.py",),
    ),
    Mutant(
        "an Access token is for whomever it likes",
        f"{HTTP}/access_jwt.py",
        (('"require": [', '"verify_aud": False, "require": ['),),
        (f"{HTTP_TESTS}/test_access.py",),
    ),
    Mutant(
        "the cookie is not looked at beside the header",
        f"{HTTP}/access.py",
        (("dict.fromkeys([*in_header, *in_cookie])", "dict.fromkeys(in_header or in_cookie)"),),
        (f"{HTTP_TESTS}/test_access.py",),
    ),
    Mutant(
        "each invented key id asks the team anew",
        f"{HTTP}/access_keys.py",
        (("RETRY_SECONDS = 10.0", "RETRY_SECONDS = 0.0"),),
        (f"{HTTP_TESTS}/test_access_keys.py",),
    ),
    Mutant(
        "an outage of the keys shuts everybody out",
        f"{HTTP}/access_keys.py",
        (("STALE_SECONDS = 24 * 3600.0", "STALE_SECONDS = FRESH_SECONDS"),),
        (f"{HTTP_TESTS}/test_access_keys.py",),
    ),
    Mutant(
        "the login sends people anywhere",
        f"{HTTP}/login.py",
        ((' or text.startswith("//")', ""),),
        (f"{HTTP_TESTS}/test_login.py",),
    ),
    Mutant(
        "a session never ends",
        f"{HTTP}/sessions.py",
        (("expiry > self._now() and", ""),),
        (f"{HTTP_TESTS}/test_sessions.py",),
    ),
    Mutant(
        "what a client says of itself reaches the agent",
        f"{HTTP}/headers.py",
        (("plain in _IDENTITY or plain in further or plain.startswith(_IDENTITY_PREFIXES)", "plain in _IDENTITY"),),
        (f"{HTTP_TESTS}/test_headers.py",),
    ),
    Mutant(
        "a lost answer is not read back",
        "supervisor/store/retry.py",
        (("if found is not None and found.data == data:", "if False:"),),
        ("tests/unit/store/test_retry.py", "tests/simulation"),
    ),
    Mutant(
        "the marker comes before the restore",
        f"{SNAPSHOT}/engine.py",
        (
            (
                "                ahead, self._ahead = self._ahead, None",
                "                self._disk.mark(Marker(repository=head.repository, sequence=record.sequence))\n"
                "                ahead, self._ahead = self._ahead, None",
            ),
        ),
        ("tests.fault.crash.runner", "1", "restore"),
        module=True,
    ),
    Mutant(
        "side files of databases are kept",
        f"{SNAPSHOT}/capture.py",
        (
            ("return owner in self._copies or _is_side_file(path, walked.found, self._known)", "return False"),
            ("return owner is not None and owner in names", "return False and owner in names"),
        ),
        ENGINE,
    ),
    Mutant(
        "the hash is not checked",
        f"{SNAPSHOT}/pack.py",
        (("if digest(content) != blob.hash:", "if False:"),),
        (*ENGINE, "tests/fault/test_hostile_repository.py"),
    ),
    Mutant(
        "the shrink guard lets everything pass",
        f"{SNAPSHOT}/guard.py",
        (
            (
                "    old_files, new_files = before.files, now.files\n",
                "    return None\n    old_files, new_files = 0, 0\n",
            ),
        ),
        ENGINE,
    ),
    Mutant(
        "collection forgets the rescued",
        f"{SNAPSHOT}/collect.py",
        (("[*retained, *rescued]", "[*retained]"),),
        ("tests/unit/snapshot/test_collect.py",),
    ),
    Mutant(
        "collection takes what is young",
        f"{SNAPSHOT}/collect.py",
        ((">= self._young", ">= 0"),),
        ("tests/unit/snapshot/test_collect.py",),
    ),
    Mutant(
        "collection does not ask whether it is still the writer",
        f"{SNAPSHOT}/collect.py",
        (
            ("head = await claim.refresh()", "head = claim.head"),
            ("            await claim.refresh()", "            pass"),
        ),
        ("tests/unit/snapshot/test_collect.py",),
    ),
    Mutant(
        "a newcomer does not wait",
        f"{SNAPSHOT}/handover.py",
        (("if not wait.is_over(seen.head):", "if False:"),),
        ("tests/unit/snapshot/test_handover.py",),
    ),
    Mutant(
        "links are followed while reading",
        f"{SNAPSHOT}/capture.py",
        (("_READ = os.O_RDONLY | os.O_NOFOLLOW", "_READ = os.O_RDONLY"),),
        ("tests/fault/test_changing_tree.py",),
    ),
    Mutant(
        "directories are entered through links",
        f"{SNAPSHOT}/descend.py",
        ((" | os.O_NOFOLLOW", ""),),
        ("tests/fault/test_changing_tree.py",),
    ),
    Mutant(
        "a file of the last tick is trusted",
        f"{SNAPSHOT}/capture.py",
        (("SETTLE_NS = 20_000_000", "SETTLE_NS = -(1 << 62)"),),
        ENGINE,
    ),
    Mutant(
        "a path may lead out of the root",
        f"{SNAPSHOT}/tree.py",
        (('any(part in ("", ".", "..") for part in parts)', "False"),),
        ("tests/fault/test_hostile_repository.py",),
    ),
    Mutant(
        "a path that looks like the front door's own is let through",
        f"{HTTP}/paths.py",
        (("if self.holds(folded(path)):", "if False:"),),
        ("tests/unit/http/test_attacks.py", "tests/property/test_paths.py"),
    ),
    Mutant(
        "escapes are decoded once only",
        f"{HTTP}/paths.py",
        (("        text = once\n", "        return once\n"),),
        ("tests/unit/http/test_paths.py",),
    ),
    Mutant(
        "a broken body is left to wait",
        f"{HTTP}/connection.py",
        (("            self._break_body()\n", "            pass\n"),),
        ("tests/unit/http/test_attacks.py", "-k", "broken and head", "--timeout", "30"),
    ),
    Mutant(
        "a client that takes nothing is waited for",
        f"{HTTP}/connection.py",
        (("self._loop.call_later(STALLED_SECONDS, self.abort)", "None"),),
        ("tests/unit/http/test_limits.py", "-k", "takes_nothing", "--timeout", "30"),
    ),
    Mutant(
        "a head may take for ever",
        f"{HTTP}/connection.py",
        (("self._loop.call_later(HEAD_SECONDS, self.force_close)", "None"),),
        ("tests/unit/http/test_limits.py", "-k", "head", "--timeout", "30"),
    ),
    Mutant(
        "nobody makes room in a full house",
        f"{HTTP}/reception.py",
        (("        if not waiting:\n", "        if True:\n"),),
        ("tests/unit/http/test_limits.py", "-k", "full", "--timeout", "30"),
    ),
    Mutant(
        "a request that may not be repeated is",
        f"{HTTP}/proxy.py",
        (("                    if not repeatable:\n                        raise\n", ""),),
        ("tests/unit/http/test_agent_line.py", "--timeout", "30"),
    ),
    Mutant(
        "a silent peer is waited for",
        f"{HTTP}/bridge.py",
        (("if silence >= patience.dead:", "if False:"),),
        ("tests/unit/http/test_bridge.py", "-k", "answers_no_ping", "--timeout", "30"),
    ),
    Mutant(
        "a busy peer is taken for a dead one",
        f"{HTTP}/bridge.py",
        (("if not side.listening or progress != side.seen:", "if False:"),),
        ("tests/unit/http/test_bridge.py", "-k", "not_taken_for_dead", "--timeout", "30"),
    ),
    Mutant(
        "the agent's control characters are passed on",
        f"{HTTP}/agent_line.py",
        (("    if _FORBIDDEN.search(reason):\n        return False\n", ""), ("if _FORBIDDEN.search(value) or ", "if ")),
        ("tests/unit/http/test_attacks.py", "-k", "inject"),
    ),
    Mutant(
        "a half answer is ended as if it were whole",
        f"{HTTP}/proxy.py",
        (
            (
                "            request.transport.abort()\n        return response, False",
                "            pass\n        await response.write_eof()\n        return response, False",
            ),
        ),
        ("tests/unit/http/test_proxy.py", "-k", "breaks_off"),
        "the broker asks for no token",
        "supervisor/broker/forward.py",
        (("if not any(hmac", "if False and not any(hmac"),),
        ("tests/unit/broker/test_forward.py",),
    ),
    Mutant(
        "the agent's own credential is passed on",
        "supervisor/broker/headers.py",
        (("if (_CREDENTIAL.search(name)", "if (False"),),
        ("tests/unit/broker/test_forward.py",),
    ),
    Mutant(
        "the key is not looked for across two chunks",
        "supervisor/broker/scrub.py",
        (("keep = self._beginning(data)", "keep = 0"),),
        ("tests/unit/broker/test_forward.py",),
    ),
    Mutant(
        "what is under way is not set aside",
        "supervisor/broker/budget.py",
        (("self._reserved += tokens", "pass"),),
        ("tests/unit/broker/test_budget.py",),
    ),
    Mutant(
        "what HEAD says of usage is written over before it is read",
        "supervisor/broker/ledger.py",
        (("if not self._loaded:\n            return None", "if False:\n            return None"),),
        ("tests/unit/broker/test_budget.py",),
    ),
    Mutant(
        "what SQLite has opened is not looked at",
        f"{SNAPSHOT}/sqlite.py",
        (("if _identity(expected) not in identities or not identities <= allowed:", "if False:"),),
        ("tests/unit/snapshot/test_sqlite.py",),
    ),
    Mutant(
        "a hard link is told by the walk alone",
        f"{SNAPSHOT}/capture.py",
        (
            (
                "if before.st_nlink > 1 and (first := self._first_name(found.path, signature)):",
                "if found.links > 1 and (first := self._first_name(found.path, found.signature)):",
            ),
        ),
        ("tests/fault/test_racing_tree.py", "-k", "hard_link"),
    ),
    Mutant(
        "a database counts as settled after its copy",
        f"{SNAPSHOT}/capture.py",
        (("copied.signatures, settled=copied.settled)", "copied.signatures, settled=True)"),),
        (*ENGINE, "-k", "database"),
    ),
    Mutant(
        "a hole at the end of a file is forgotten",
        f"{SNAPSHOT}/place.py",
        (("if entry.blobs and entry.blobs[-1].hash == HOLE:", "if False:"),),
        (*ENGINE, "-k", "sparse"),
    ),
    Mutant(
        "what follows a hole moves into it",
        f"{SNAPSHOT}/place.py",
        (("                    offset += blob\n", ""),),
        (*ENGINE, "-k", "sparse"),
    ),
    Mutant(
        "an object's size is not looked at before it is read",
        "supervisor/store/s3.py",
        (("check_size(key, length, limit)", "pass"),),
        ("tests/contract/store/test_conformance.py", "-k", "limit"),
    ),
    Mutant(
        "a bucket that ignores If-Match is taken for safe",
        f"{SNAPSHOT}/repository.py",
        (('            group.create_task(self._prove_match(f"probe-{self._new_id()}"))\n', ""),),
        ("tests/unit/snapshot/test_handover.py",),
    ),
    Mutant(
        "a file keeps the mode that it was made with",
        f"{SNAPSHOT}/place.py",
        (("if mode != self._mode_at_creation(entry):", "if False:"),),
        ENGINE,
    ),
)


def survives(mutant: Mutant) -> bool:
    """Do the tests pass with the bug in?"""
    with tempfile.TemporaryDirectory(prefix="moltinit-mutant-") as place:
        for name in COPIED:
            source = PROJECT / name
            target = Path(place) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        file = Path(place) / mutant.file
        text = file.read_text()
        for old, new in mutant.changes:
            if old not in text:
                raise SystemExit(f"{mutant.name}: {mutant.file} has no {old!r} any more; plant the bug anew")
            text = text.replace(old, new)
        file.write_text(text)
        command = (
            [sys.executable, "-m", *mutant.tests]
            if mutant.module
            else [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
        )
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600, check=False)
        return done.returncode == 0


def main() -> None:
    """All of them, or those whose names are given."""
    wanted = set(sys.argv[1:])
    survivors = []
    for mutant in MUTANTS:
        if wanted and mutant.name not in wanted:
            continue
        alive = survives(mutant)
        survivors += [mutant.name] if alive else []
        print(f"{'NOT NOTICED' if alive else 'noticed':12} {mutant.name}", flush=True)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
