"""Numbers and untrusted text, in words that are safe to read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))

_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and newline
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, or turning the line
    "\U000e0000-\U000e007f"  # tags: text that nobody sees
    "\ud800-\udfff"  # bytes of a file name that are no UTF-8
    "]"
)


def visible(text: str) -> str:
    r"""Text in which nothing is hidden and nothing turns the line around: such characters are shown as `\u202e`.

    It can always be encoded as UTF-8. Escaping for HTML is not done here.
    """
    return _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\u{number:04x}" if number > 0xFF else f"\\x{number:02x}"


def sentence(text: str) -> str:
    """Text with a capital at its beginning: errors have none, since other words may stand before them."""
    return text[:1].upper() + text[1:]


def in_link(text: str) -> str:
    """Text as a part of a link's query; what cannot be encoded names nothing, and becomes a question mark."""
    return quote(text.encode("utf-8", "replace"), safe="")


def short(text: str, most: int) -> str:
    """At most `most` characters; what is left out is said by an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def span(seconds: float) -> str:
    """A duration in its largest unit, and the next where that is small: `1 h 20 min`, `45 s`, `0.3 s`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for index, (size, unit) in enumerate(_UNITS):
        if seconds < size:
            continue
        whole, rest = divmod(seconds, size)
        if index + 1 < len(_UNITS) and whole < 10:
            below, unit_below = _UNITS[index + 1]
            if int(rest // below):
                return f"{int(whole)} {unit} {int(rest // below)} {unit_below}"
        return f"{int(whole)} {unit}"
    return "0 s"


def ago(at: float, now: float) -> str:
    """How long ago a moment is, roughly; a clock that was set back makes no future of it."""
    seconds = max(0.0, now - at)
    if seconds < 2:
        return "just now"
    size, unit = next((entry for entry in _UNITS if seconds >= entry[0]), _UNITS[-1])
    return f"{int(seconds // size)} {unit} ago"


def moment(at: float) -> datetime:
    """A moment in UTC, whatever number somebody has written down."""
    return datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), UTC)


def iso(at: float) -> str:
    """For the `datetime` attribute."""
    return moment(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: float) -> str:
    """`25 Nov 10:04 UTC`; a script shows the reader's own time instead."""
    return moment(at).strftime("%-d %b %H:%M UTC")


def day(at: float) -> str:
    """`Wednesday, 25 November 2026`."""
    return moment(at).strftime("%A, %-d %B %Y")


def count(number: float, one: str, many: str = "") -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"


def dollars(amount: float) -> str:
    """`$0.49`; what is below a cent and not nothing is said to be so."""
    return "< $0.01" if 0 < amount < 0.005 else f"${amount:,.2f}"
