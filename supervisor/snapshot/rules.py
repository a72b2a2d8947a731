"""What of the tree is state: gitignore-style rules, from the agent runtime first and from the operator after it."""

from __future__ import annotations

from collections.abc import Iterable

import pathspec

from supervisor.errors import SettingsError

REMEMBERED = 400_000
"""Answers of a kind that are kept."""


class SkipRules:
    """Decides by path alone. A later rule wins over an earlier one, `!pattern` takes back; a directory that is
    skipped is not entered, so nothing below it can be taken back (as with git)."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        try:
            self._spec = pathspec.GitIgnoreSpec.from_lines(self._patterns)
        except ValueError as error:
            raise SettingsError(
                f"one of the skip rules {list(self._patterns)} is no gitignore pattern: {error}",
                hint="write it as in a .gitignore file",
            ) from error
        # The same paths are asked for at every scan, and one answer costs tens of microseconds. Sets of the paths
        # that are there anyway take a fifth of what a cache with its own entries takes.
        self._kept: set[str] = set()
        self._skipped: set[str] = set()

    def skips(self, path: str, *, is_directory: bool) -> bool:
        """`path` is relative to the root."""
        if not self._patterns:
            return False
        if is_directory:
            path += "/"
        if path in self._kept:
            return False
        if path in self._skipped:
            return True
        skipped = self._spec.match_file(path)
        remembered = self._skipped if skipped else self._kept
        if len(remembered) >= REMEMBERED:
            remembered.clear()
        remembered.add(path)
        return skipped


class Classes:
    """The restore classes: 0 for what the agent needs to start (config, credentials, databases), 1 for the rest."""

    def __init__(self, first: Iterable[str]) -> None:
        self._rules = SkipRules(first)

    def of(self, path: str) -> int:
        """The class of a file."""
        return 0 if self._rules.skips(path, is_directory=False) else 1
