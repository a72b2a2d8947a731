"""A stream without a secret in it, at the same length and without waiting for more than the secret's beginning."""

from __future__ import annotations


class Scrubber:
    """Replaces every occurrence of the secrets by asterisks; bytes are held back only while they may begin one."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = tuple(sorted((secret.encode() for secret in secrets if secret), key=len, reverse=True))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be passed on by now."""
        data = self._replace(self._held + data if self._held else data)
        keep = self._beginning(data)
        self._held = data[len(data) - keep :] if keep else b""
        return data[: len(data) - keep] if keep else data

    def end(self) -> bytes:
        """What was held back: it began like a secret and was none."""
        held, self._held = self._held, b""
        return held

    def _replace(self, data: bytes) -> bytes:
        for secret in self._secrets:
            if secret in data:
                data = data.replace(secret, b"*" * len(secret))
        return data

    def _beginning(self, data: bytes) -> int:
        """The length of the longest end of `data` that a secret begins with."""
        longest = 0
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(data)), longest, -1):
                if data.endswith(secret[:length]):
                    longest = length
                    break
        return longest
