"""How many tokens an answer cost, read as it streams past: one JSON document, or server-sent events.

Understood are Anthropic's messages, OpenAI's chat completions, responses and embeddings, and Google's generateContent.
Nothing is kept but counts and a bounded piece of the current line. What says nothing is estimated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

MAX_DOCUMENT_BYTES = 1024 * 1024
"""A document or an event up to this size is read as a whole; of a longer one, its two ends."""
END_BYTES = 16 * 1024
MAX_TOKENS = 100_000_000
"""More than that in one answer is nonsense, and would spend a budget by one wrong field."""
BYTES_PER_TOKEN = 4
"""Of English text and JSON, roughly; for estimates."""
USUAL_ANSWER_TOKENS = 1000
"""Set aside for the answer of a request that is under way."""
LONGEST_ANSWER_TOKENS = 128_000
"""Charged for an answer that does not say what it cost, and whose text does not pass through here in full: the most
that the common models write at once."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `input` is what was neither read from nor written to the provider's cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.output + self.cache_read + self.cache_write


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


class _GoogleCounts(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


class _Inner(msgspec.Struct):
    model: str | None = None
    usage: _Counts | None = None
    status: object = None
    background: object = None


class _Document(msgspec.Struct):
    model: str | None = None
    usage: _Counts | None = None
    status: object = None
    background: object = None
    message: _Inner | str | None = None
    response: _Inner | str | None = None
    usage_metadata: _GoogleCounts | None = msgspec.field(default=None, name="usageMetadata")
    model_version: str | None = msgspec.field(default=None, name="modelVersion")


_TELLING = re.compile(rb'"(?:usage|usageMetadata|model|modelVersion)"\s*:')
# In a string of the answer itself a quote is escaped, so that no text of the model can look like this.
_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_USAGE_METADATA = re.compile(rb'"usageMetadata"\s*:\s*(\{(?:[^{}]|\{[^{}]*\}|\[[^\[\]]*\])*\})')
_BACKGROUND = re.compile(rb'"background"\s*:\s*true')
_MODEL = re.compile(rb'"(?:model|modelVersion)"\s*:\s*"([^"\\]{1,200})"')


class _Piece:
    """A document or a line: whole while it is small, else its beginning and its end."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._tail = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.size <= MAX_DOCUMENT_BYTES:
            self._data += data
            return
        if len(self._data) > END_BYTES:
            self._tail += self._data[-END_BYTES:]
            del self._data[END_BYTES:]
        self._tail += data[-END_BYTES:]
        if len(self._tail) > 4 * END_BYTES:
            del self._tail[:-END_BYTES]

    @property
    def whole(self) -> bool:
        return self.size <= MAX_DOCUMENT_BYTES

    def bytes(self) -> bytes:
        return bytes(self._data) + bytes(self._tail)


class Meter:
    """Reads one answer.

    Args:
        content_type: of the answer.
        model: what the request called the model, for an answer that does not name it.
        tells: its kind of answer says what it cost, if it is whole; one that does not is charged as the longest.
    """

    def __init__(self, content_type: str, model: str = "", *, tells: bool = False) -> None:
        self._events = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._textual = self._events or "json" in content_type
        self._piece = _Piece()
        self._counts = [0, 0, 0, 0]
        self._told_input = self._told_output = False
        self._tells = tells
        self._status: object = None
        self._background = False
        self._told = 0
        self._bytes = 0
        self.model = model

    def feed(self, data: bytes) -> None:
        """The next bytes of the answer."""
        self._bytes += len(data)
        if not self._textual:
            return
        if not self._events:
            self._piece.add(data)
            return
        for line in self._lines(data):
            if line.startswith(b"data:"):
                self._told += 1
                if _TELLING.search(line):
                    self._read(line[5:], whole=len(line) <= MAX_DOCUMENT_BYTES)

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *ended, rest = data.split(b"\n")
        for part in ended:
            if self._piece.size:
                self._piece.add(part)
                line, self._piece = self._piece.bytes(), _Piece()
                yield line
            else:
                yield part
        if rest:
            self._piece.add(rest)

    def result(self, *, request_bytes: int, complete: bool) -> Usage:
        """The tokens of the answer; estimated where it did not say, or was broken off before it did."""
        if not self._events and self._piece.size:
            self._read(self._piece.bytes(), whole=self._piece.whole)
        elif self._piece.size and complete:
            self._read(self._piece.bytes().removeprefix(b"data:"), whole=self._piece.whole)
        input_, output, cache_read, cache_write = self._counts
        estimated = False
        if not self._told_input:
            input_, estimated = request_bytes // BYTES_PER_TOKEN, True
        if not self._told_output or not complete:
            # An event carries about one token. Speech, pictures and vectors are no text: what they cost is not guessed.
            guess = self._told if self._events else self._bytes // BYTES_PER_TOKEN if self._textual else 0
            if not (self._told_input and complete and not self._events) and guess > output:
                output, estimated = guess, True
        if self._hidden(complete=complete):
            output, estimated = max(output, LONGEST_ANSWER_TOKENS), True
        return Usage(input_, output, cache_read, cache_write, estimated)

    def _hidden(self, *, complete: bool) -> bool:
        """What the answer cost was neither told nor seen: it is made in the background, or keeps silent about it."""
        if self._told_output or self._status == "failed":
            return False
        if self._background or (self._status in ("queued", "in_progress") and not self._events):
            return True
        # A stream that broke off showed what it had come to; a document is written before its first byte is sent.
        return self._tells and not self._told_input and (complete or not self._events)

    def _read(self, data: bytes, *, whole: bool) -> None:
        if whole:
            try:
                document = msgspec.json.decode(data, type=_Document)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                pass  # an array of documents (Google without alt=sse), or something else
            else:
                self._take(document)
                return
        if found := _MODEL.search(data):
            self.model = found[1].decode("utf-8", "replace")
        self._background = self._background or _BACKGROUND.search(data) is not None
        try:
            for match in _USAGE.finditer(data):
                self._add(msgspec.json.decode(match[1], type=_Counts))
            for match in _USAGE_METADATA.finditer(data):
                self._add_google(msgspec.json.decode(match[1], type=_GoogleCounts))
        except (msgspec.MsgspecError, ValueError):
            return

    def _take(self, document: _Document) -> None:
        for inner in (document.message, document.response, document):
            if isinstance(inner, _Inner | _Document):
                self.model = inner.model or self.model
                self._status = inner.status or self._status
                self._background = self._background or inner.background is True
                if inner.usage is not None:
                    self._add(inner.usage)
        self.model = document.model_version or self.model
        if document.usage_metadata is not None:
            self._add_google(document.usage_metadata)

    def _add(self, counts: _Counts) -> None:
        details = counts.prompt_tokens_details or counts.input_tokens_details
        cached = details.cached_tokens if details else None
        given = counts.prompt_tokens if counts.prompt_tokens is not None else counts.input_tokens
        output = counts.completion_tokens if counts.completion_tokens is not None else counts.output_tokens
        # OpenAI counts cached tokens among its input, Anthropic beside it.
        fresh = None if given is None else given - (cached or 0)
        read = counts.cache_read_input_tokens if cached is None else cached
        self._set(fresh, output, read, counts.cache_creation_input_tokens)

    def _add_google(self, counts: _GoogleCounts) -> None:
        cached = counts.cached_content_token_count or 0
        fresh = None if counts.prompt_token_count is None else counts.prompt_token_count - cached
        said = counts.candidates_token_count, counts.thoughts_token_count
        output = None if said == (None, None) else (said[0] or 0) + (said[1] or 0)
        self._set(fresh, output, cached, 0)

    def _set(self, *values: int | None) -> None:
        """What a stream says later includes what it said before."""
        self._told_input = self._told_input or values[0] is not None
        self._told_output = self._told_output or values[1] is not None
        for index, value in enumerate(values):
            if value is not None:
                self._counts[index] = min(max(value, 0), MAX_TOKENS)


_NAMED = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"')


class RequestReader:
    """Counts a request's body on its way, and finds the model that it asks for in its first and last bytes.

    Args:
        model: where the path says it already.
        outlives: what it asks for may be made though nobody waits for it.
    """

    def __init__(self, model: str = "", *, outlives: bool = False) -> None:
        self.size = 0
        self.whole = False
        """Its end has come."""
        self.outlives = outlives
        self._named = model
        self._head = bytearray()
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        self.size += len(data)
        if len(self._head) < END_BYTES:
            self._head += data[: END_BYTES - len(self._head)]
        self._tail = (self._tail + data[-1024:])[-1024:]

    @property
    def model(self) -> str:
        """What the request calls the model; empty where it is not found."""
        if self._named:
            return self._named
        found = _NAMED.search(self._head) or _NAMED.search(self._tail)
        return found[1].decode("utf-8", "replace") if found else ""
