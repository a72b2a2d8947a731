"""What of the tree is state: gitignore-style rules, from the agent runtime first and from the operator after it."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pathspec

from supervisor.errors import SettingsError


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
        # The same few thousand paths are asked for at every scan, and one answer costs tens of microseconds.
        self._remembered = functools.lru_cache(maxsize=200_000)(self._match)

    def skips(self, path: str, *, is_directory: bool) -> bool:
        """`path` is relative to the root."""
        return self._remembered(path + "/" if is_directory else path)

    def _match(self, path: str) -> bool:
        return self._spec.match_file(path)


class Classes:
    """The restore classes: 0 for what the agent needs to start (config, credentials, databases), 1 for the rest."""

    def __init__(self, first: Iterable[str]) -> None:
        self._rules = SkipRules(first)

    def of(self, path: str) -> int:
        """The class of a file."""
        return 0 if self._rules.skips(path, is_directory=False) else 1
