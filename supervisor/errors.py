"""The one error family: a machine code, one sentence that names the thing, a hint of what to do, an exit code.

Raise these; never log and raise. Whoever ends the work (a command, the life cycle) shows the error once.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What `moltinit` exits with; documented in docs/lifecycle.md. 128+n stands for a death by signal n."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CRASH_LOOP = 10
    UNHEALTHY = 11
    RESTORE_FAILED = 12
    FENCED = 13
    SEAL_INCOMPLETE = 14
    BUCKET = 15
    STALLED = 16
    SETTINGS = 78


class MoltinitError(Exception):
    """Base of all errors that an operator may see.

    Args:
        message: one sentence that names the thing and the value; it never holds a secret.
        hint: what to do about it; empty when there is nothing to do.
    """

    code = "internal"
    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """The error as an API answer: `{"code", "message", "hint"}`."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class SettingsError(MoltinitError):
    """A setting is unknown, incomplete or has a value that means nothing."""

    code = "bad-settings"
    exit_code = ExitCode.SETTINGS


class UsageError(MoltinitError):
    """A command was asked for something that does not exist, or that cannot be done now."""

    code = "usage"
    exit_code = ExitCode.USAGE


class NotFound(UsageError):
    """What was asked for by its name or number does not exist."""

    code = "not-found"


class AgentError(MoltinitError):
    """The agent could not be configured, started or spoken to."""

    code = "agent"
    exit_code = ExitCode.UNHEALTHY


class StoreError(MoltinitError):
    """The bucket did not do what was asked of it; the base of all store errors."""

    code = "store"
    exit_code = ExitCode.BUCKET


class StoreUnavailable(StoreError):
    """No answer, or an answer that means "later" (409, 429, 5xx, time-out, DNS, reset).

    For a write the outcome is *unknown*: it may have taken effect. Read back before concluding anything.
    """

    code = "bucket-unavailable"


class StoreRefused(StoreError):
    """The bucket refuses these credentials (401, 403): retrying alone does not help, an operator may."""

    code = "bucket-refused"


class BucketNotFound(StoreError):
    """The bucket itself does not exist: never to be mistaken for an empty one."""

    code = "bucket-missing"


class ObjectNotFound(StoreError):
    """There is no object under this key."""

    code = "object-missing"


class ObjectTooLarge(StoreError):
    """The object is larger than anything that may be under this key; it was not read."""

    code = "object-too-large"


class PreconditionFailed(StoreError):
    """A conditional write found another state of the object than the one it was made for (412)."""

    code = "precondition-failed"


class RepositoryError(MoltinitError):
    """What the bucket holds is damaged, hostile, or of a newer format than this program reads."""

    code = "repository-damaged"
    exit_code = ExitCode.RESTORE_FAILED


class UnsupportedFormat(RepositoryError):
    """The repository was written by a newer moltinit."""

    code = "format-too-new"


class DiskError(MoltinitError):
    """This machine's disk did not do what was asked of it."""

    code = "disk"
    exit_code = ExitCode.RESTORE_FAILED


class Fenced(MoltinitError):
    """Another writer has claimed the repository since: this one must not commit again."""

    code = "fenced"
    exit_code = ExitCode.FENCED
