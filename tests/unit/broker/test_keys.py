"""The file of keys: what it may look like, and that no value ever shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.broker.keys import read_keys
from supervisor.errors import SettingsError

KNOWN = frozenset({"ANTHROPIC_API_KEY", "OPENAI_API_KEY"})


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_are_read_with_comments_quotes_and_exports(tmp_path: Path) -> None:
    file = write(tmp_path / "keys", "# mine\n\nexport ANTHROPIC_API_KEY = 'a b'\nOPENAI_API_KEY=x=y\n")
    assert read_keys(file, KNOWN) == {"ANTHROPIC_API_KEY": "a b", "OPENAI_API_KEY": "x=y"}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("SOMETHING=the-secret", 0o600),
        ("the-secret", 0o600),
        ("OPENAI_API_KEY=", 0o600),
        ("OPENAI_API_KEY=the-secret\x01", 0o600),
        ("OPENAI_API_KEY=the-secret", 0o640),
        ("OPENAI_API_KEY=" + "the-secret" * 10_000, 0o600),
    ],
)
def test_what_is_wrong_is_said_without_the_value(tmp_path: Path, text: str, mode: int) -> None:
    with pytest.raises(SettingsError) as caught:
        read_keys(write(tmp_path / "keys", text, mode), KNOWN)
    assert "MOLTINIT_KEYS_FILE" in caught.value.message
    assert "the-secret" not in caught.value.message + caught.value.hint
    assert "the-secret" not in repr(caught.value)


def test_a_file_that_is_none_is_refused_without_waiting(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError):
            read_keys(path, KNOWN)
