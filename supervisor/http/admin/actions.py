"""What the page's forms do: one entry an action, each in the words of `Operations`, each answered by a notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from supervisor.http.admin.notices import Notice
from supervisor.http.admin.verdict import Mood
from supervisor.http.answers import HttpError
from supervisor.http.operations import Operations

MAX_NOTE_CHARACTERS = 500
MAX_PATH_CHARACTERS = 4096
MAX_HANDLE_CHARACTERS = 256
SNAPSHOT_REASON = "operator"


class Form:
    """The fields of a form; a missing one is empty."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def text(self, name: str, most: int = MAX_NOTE_CHARACTERS) -> str:
        """A field's text. Raises `HttpError` where it is too long, or no text."""
        value = self._fields.get(name, "")
        if not isinstance(value, str) or len(value) > most:
            raise HttpError(400, "bad-request", f"The field '{name}' is to be a text of at most {most} characters.")
        return value.strip()

    def handle(self, name: str) -> str:
        """A field that names something. Raises `HttpError` where it is empty."""
        value = self.text(name, MAX_HANDLE_CHARACTERS)
        if not value:
            raise HttpError(400, "bad-request", f"The field '{name}' is empty.")
        return value

    def snapshot(self) -> int | str:
        """A retained snapshot's number, or a rescued state's key. Raises `HttpError`."""
        return snapshot_named(self.handle("snapshot"))

    def number(self) -> int:
        """A retained snapshot's number. Raises `HttpError`."""
        wanted = self.snapshot()
        if isinstance(wanted, str):
            raise HttpError(400, "bad-request", "The field 'snapshot' is to be the number of a retained snapshot.")
        return wanted


def snapshot_named(text: str) -> int | str:
    """What a form or a link calls a snapshot. Raises `HttpError` where it can be none."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    if text.startswith("rescue/") and len(text) <= MAX_HANDLE_CHARACTERS:
        return text
    raise HttpError(400, "bad-request", "That is neither the number of a snapshot nor the key of a rescued state.")


@dataclass(frozen=True, slots=True)
class Done:
    """What to say, and where on the page to go on reading."""

    notice: Notice
    place: str = "/_admin/"


def _good(text: str, *, place: str = "/_admin/", can_undo: bool = False) -> Done:
    return Done(Notice(Mood.GOOD, text, can_undo=can_undo), place)


async def _snapshot(operations: Operations, form: Form) -> Done:
    taken = await operations.take_snapshot(SNAPSHOT_REASON, note=form.text("note"))
    return _good(f"Everything is saved: snapshot {taken['sequence']}.")


async def _restore(operations: Operations, form: Form) -> Done:
    wanted, path = form.snapshot(), form.text("path", MAX_PATH_CHARACTERS)
    record = await operations.restore(wanted, path=path)
    what = f"{path} of " if path else ""
    name = f"snapshot {wanted}" if isinstance(wanted, int) else wanted
    return _good(
        f"Restored: {what}{name}, which is now snapshot {record['sequence']}. What was there before is pinned.",
        can_undo=True,
    )


async def _undo(operations: Operations, form: Form) -> Done:
    record = await operations.undo()
    return _good(f"The last restore is taken back; that is snapshot {record['sequence']}.", can_undo=True)


async def _pin(operations: Operations, form: Form) -> Done:
    number = form.number()
    pin = "" if form.text("how") == "unpin" else form.text("pin") or "kept by an operator"
    await operations.annotate(number, pin=pin)
    said = f"Snapshot {number} is kept for good." if pin else f"Snapshot {number} is no longer pinned."
    return _good(said, place=f"/_admin/snapshots/{number}")


async def _note(operations: Operations, form: Form) -> Done:
    number = form.number()
    await operations.annotate(number, note=form.text("note"))
    return _good(f"The note of snapshot {number} is saved.", place=f"/_admin/snapshots/{number}")


async def _restart(operations: Operations, form: Form) -> Done:
    await operations.restart_agent()
    return _good("The agent was restarted.")


async def _stop(operations: Operations, form: Form) -> Done:
    await operations.stop_agent()
    return _good("The agent is stopped. It stays so until it is started again.")


async def _start(operations: Operations, form: Form) -> Done:
    await operations.start_agent()
    return _good("The agent is started.")


async def _leave_safe_mode(operations: Operations, form: Form) -> Done:
    await operations.leave_safe_mode()
    return _good("The failures are forgotten, and the agent is started.")


async def _maintenance_on(operations: Operations, form: Form) -> Done:
    await operations.set_maintenance(True, form.text("reason"))
    return _good("Maintenance is on: automatic actions pause, saving goes on.")


async def _maintenance_off(operations: Operations, form: Form) -> Done:
    await operations.set_maintenance(False)
    return _good("Maintenance is over.")


async def _approve(operations: Operations, form: Form) -> Done:
    await operations.approve_device(form.handle("device"))
    return _good("The device is let in.")


async def _approve_all(operations: Operations, form: Form) -> Done:
    answer = await operations.approve_all_devices()
    failed = len(answer["failed"])
    if failed:
        text = f"{len(answer['approved'])} devices are let in, {failed} could not be."
        return Done(Notice(Mood.WARN, text, hint=str(answer["failed"][0].get("error", ""))))
    return _good("All devices that waited are let in.")


async def _reject(operations: Operations, form: Form) -> Done:
    await operations.reject_device(form.handle("device"))
    return _good("The device is turned away.")


async def _remove(operations: Operations, form: Form) -> Done:
    await operations.remove_device(form.handle("device"))
    return _good("The device is removed; it has to be approved again.")


ACTIONS: dict[str, Callable[[Operations, Form], Awaitable[Done]]] = {
    "snapshot": _snapshot,
    "restore": _restore,
    "undo": _undo,
    "pin": _pin,
    "note": _note,
    "restart": _restart,
    "stop": _stop,
    "start": _start,
    "leave-safe-mode": _leave_safe_mode,
    "maintenance-on": _maintenance_on,
    "maintenance-off": _maintenance_off,
    "device-approve": _approve,
    "device-approve-all": _approve_all,
    "device-reject": _reject,
    "device-remove": _remove,
}
"""By the last part of the path a form is sent to."""
