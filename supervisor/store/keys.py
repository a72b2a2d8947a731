"""Which keys a store accepts: one rule for every backend, so that what works on one works on all of them."""

from __future__ import annotations

from supervisor.errors import ObjectTooLarge, StoreError

MAX_KEY_BYTES = 1024
"""S3's and R2's limit for a whole key, prefix included."""
MAX_SEGMENT_BYTES = 255
"""NAME_MAX of the usual local file systems."""


def key_problem(key: str) -> str:
    """Why this key cannot be stored everywhere; empty where it can.

    Dot segments are refused because clients and servers on the way normalise them, control characters because
    XML listings cannot carry them, empty segments because a directory tree has none.
    """
    if not key:
        return "it is empty"
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes"
    if any(byte < 0x20 or byte == 0x7F for byte in encoded):
        return "it contains a control character"
    for segment in encoded.split(b"/"):
        if not segment:
            return "it has an empty segment"
        if segment in (b".", b".."):
            return "it has a dot segment"
        if len(segment) > MAX_SEGMENT_BYTES:
            return f"a segment is longer than {MAX_SEGMENT_BYTES} bytes"
    return ""


def check_key(key: str) -> str:
    """The key itself. Raises `StoreError` where `key_problem` finds one."""
    if problem := key_problem(key):
        raise StoreError(f"object key {key[:100]!r} cannot be used: {problem}")
    return key


def check_range(key: str, start: int, end: int) -> None:
    """Raises `StoreError` unless `0 <= start <= end`."""
    if not 0 <= start <= end:
        raise StoreError(f"byte range {start}-{end} of {key!r} means nothing")


def check_size(key: str, size: int, limit: int | None) -> None:
    """Raises `ObjectTooLarge` for an object of more than `limit` bytes."""
    if limit is not None and size > limit:
        raise ObjectTooLarge(f"object {key!r} has {size} bytes, more than the {limit} that it may have")


def check_prefix(prefix: str) -> None:
    """Raises `StoreError` unless the prefix is empty or could begin a key."""
    if prefix:
        check_key(prefix.removesuffix("/"))
