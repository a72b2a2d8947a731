"""`python -m supervisor.settings` prints docs/settings.md."""

from __future__ import annotations

import sys

from supervisor.settings.options import SECTIONS, TOGETHER

HEAD = """# Settings

<!-- Made by `python -m supervisor.settings`; a test keeps it up to date. -->

The environment comes first, a TOML file (`MOLTINIT_CONFIG`) second; there, a setting has its name in lower case without
`MOLTINIT_`, at the top level. An empty value counts as not set. Durations are written `500ms`, `10s`, `5m`, `1h30m`.
An unknown `MOLTINIT_*` variable, or a bad value, stops the start with exit code 78 and says what would be right.
`moltinit config` shows the values in force and where each came from.
"""


def document() -> str:
    """The page."""
    parts = [HEAD]
    for title, section in SECTIONS.items():
        parts.append(f"\n## {title}\n\n| variable | default | |\n| --- | --- | --- |\n")
        parts += [f"| `{option.name}` | {_default(option.default)} | {option.text} |\n" for option in section]
    parts.append("\n## What belongs together\n\nAll of a group, or none:\n\n")
    parts += [f"* {what}: {', '.join(f'`{name}`' for name in names)}\n" for names, what in TOGETHER]
    return "".join(parts)


def _default(text: str) -> str:
    if text.startswith("("):
        return text[1:-1]
    return text if text == "-" else f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(document())
