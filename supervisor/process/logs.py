"""What the agent prints: cut into lines, masked, kept in a bounded ring, written to a rotated file.

The output is untrusted. A line has a greatest length, bytes that are no UTF-8 and control characters (a
terminal would obey them) are shown as escapes, and no amount of output takes more than a bounded amount of
memory or disk.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import takewhile

from supervisor.clock import Clock, SystemClock
from supervisor.process.log_file import LogFile

MAX_LINE_BYTES = 16 * 1024
LOOKAHEAD_BYTES = 1024
"""Read on beyond the cut before masking: a secret that straddles the cut is still whole, and is masked."""
FOLLOWED_AT_ONCE = 64

_ANSI = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line; sequences grow by one and never repeat in the life of the supervisor. `at` is wall time."""

    sequence: int
    at: float
    text: str


class LineFramer:
    """Bytes in, whole lines out; of a line that is too long the beginning, and how much was left out."""

    def __init__(self, limit: int = MAX_LINE_BYTES + LOOKAHEAD_BYTES) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> list[tuple[bytes, int]]:
        """Lines that are complete now, each with the number of bytes left out at its end."""
        *complete, rest = data.split(b"\n")
        lines = []
        for piece in complete:
            self._append(piece)
            lines.append(self._take())
        self._append(rest)
        return lines

    def end(self) -> list[tuple[bytes, int]]:
        """The last line, where it had no newline."""
        return [self._take()] if self._partial else []

    def _append(self, piece: bytes) -> None:
        room = self._limit - len(self._partial)
        self._partial += piece[:room]
        self._dropped += max(0, len(piece) - room)

    def _take(self) -> tuple[bytes, int]:
        line = bytes(self._partial).removesuffix(b"\r"), self._dropped
        self._partial.clear()
        self._dropped = 0
        return line


class Logs:
    """The agent's output, as far back as it is kept.

    Args:
        mask: replaces secrets in a line; it sees the text before it is cut or kept anywhere.
        lines: how many lines the ring holds.
        file: where the lines go besides, or None.
        echo: called with every line (the supervisor's own output, for a platform that collects it).
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        mask: Callable[[str], str] = str,
        lines: int = 2000,
        file: LogFile | None = None,
        echo: Callable[[LogLine], None] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._mask = mask
        self._ring: deque[LogLine] = deque(maxlen=lines)
        self._file = file
        self._echo = echo
        self._framer = LineFramer()
        self._next = 1
        self._more = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Output of the agent, in whatever pieces it comes."""
        self._keep([_text(line, dropped, self._mask) for line, dropped in self._framer.feed(data)])

    def end(self) -> None:
        """The agent's output has ended: what it printed last may lack a newline."""
        self._keep([_text(line, dropped, self._mask) for line, dropped in self._framer.end()])

    def note(self, text: str) -> None:
        """A remark of the supervisor among the agent's lines (started, ended, why)."""
        self._keep([_text(f"[moltinit] {text}".encode(), 0, self._mask)])

    def tail(self, count: int | None = None, *, after: int = 0) -> list[LogLine]:
        """The last `count` lines (all that are kept, where None) with a sequence above `after`, oldest
        first."""
        # From the newest backwards: who follows asks for every new line.
        kept = list(takewhile(lambda line: line.sequence > after, reversed(self._ring)))[::-1]
        return kept if count is None else kept[max(0, len(kept) - count) :]

    async def follow(self, after: int = 0) -> AsyncIterator[LogLine]:
        """Lines above `after`, then every new one. A reader slower than the agent misses what the ring drops:
        it sees a gap in the sequence."""
        while True:
            # A few at a time: a slow reader must not keep alive what the ring has dropped.
            for line in self.tail(after=after)[:FOLLOWED_AT_ONCE]:
                after = line.sequence
                yield line
            more = self._more
            if self._next - 1 <= after:
                await more.wait()

    def close(self) -> None:
        """Close the file; the ring stays readable."""
        self.end()
        if self._file is not None:
            self._file.close()

    def _keep(self, texts: list[str]) -> None:
        if not texts:
            return
        now = self._clock.time()
        kept = [LogLine(self._next + offset, now, text) for offset, text in enumerate(texts)]
        self._next += len(kept)
        self._ring.extend(kept)
        if self._file is not None:
            self._file.write(kept)
        if self._echo is not None:
            for line in kept:
                self._echo(line)
        # Everyone who waits has the old event; a new one for the next wait.
        self._more.set()
        self._more = asyncio.Event()


def _text(line: bytes, dropped: int, mask: Callable[[str], str]) -> str:
    # Colours first: they could split a secret so that the mask does not see it.
    text = mask(_ANSI.sub("", line.decode("utf-8", "backslashreplace")))
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    if dropped or len(line) > MAX_LINE_BYTES:
        shown = text[:MAX_LINE_BYTES]
        return f"{shown} [{len(line) + dropped - MAX_LINE_BYTES} bytes more]"
    return text
