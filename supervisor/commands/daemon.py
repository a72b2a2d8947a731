"""Asking the daemon that works on this disk, over its own front door."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from supervisor.daemon_file import DaemonFile
from supervisor.errors import MoltinitError, UsageError
from supervisor.settings import Settings

SLOW_SECONDS = 600.0
"""A snapshot or a restore of a large tree takes its time; the daemon bounds it, not we."""


class DaemonAnswered(MoltinitError):
    """The daemon said no."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class DaemonClient:
    """One daemon's API."""

    def __init__(self, url: str, credential: str) -> None:
        self._url = url
        self._credential = credential

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        return self._ask(path, None)

    def post(self, path: str, document: object) -> Any:
        """JSON of a POST."""
        return self._ask(path, json.dumps(document).encode())

    def patch(self, path: str, document: object) -> Any:
        """JSON of a PATCH."""
        return self._ask(path, json.dumps(document).encode(), method="PATCH")

    def delete(self, path: str) -> Any:
        """JSON of a DELETE."""
        return self._ask(path, None, method="DELETE")

    def _ask(self, path: str, body: bytes | None, *, method: str | None = None) -> Any:
        request = urllib.request.Request(
            self._url + path, data=body, headers={"Accept": "application/json"}, method=method
        )
        if body is not None:
            request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {self._credential}")
        # No proxy out of the environment: the daemon is on this machine, and the credential must not leave it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=SLOW_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise _as_error(error) from None
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the daemon at {self._url} does not answer: {error}",
                hint="it may be starting or stopping; see its log",
            ) from error


def _as_error(answer: urllib.error.HTTPError) -> MoltinitError:
    try:
        document = json.loads(answer.read())["error"]
        return DaemonAnswered(document["code"], document["message"], hint=document.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        return UsageError(
            f"the daemon answered {answer.code} {answer.reason}",
            hint="see the daemon's log",
        )


def find_daemon(settings: Settings) -> DaemonClient | None:
    """The daemon on this disk, or None."""
    found = DaemonFile(settings.home).read()
    return DaemonClient(*found) if found is not None else None
