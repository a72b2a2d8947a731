"""The JSON schemas of the API, as the OpenAPI description publishes them."""

from __future__ import annotations

from typing import Any

from supervisor.http.about import Parameter, Schema

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
SECONDS: Schema = {"type": "number", "description": "Seconds since 1970."}
MAYBE_SECONDS: Schema = {"type": ["number", "null"], "description": "Seconds since 1970."}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
MAYBE_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0}
NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999}


def of(required: dict[str, Schema], *, optional: dict[str, Schema] | None = None, more: bool = False) -> Schema:
    """An object with these members; `more`: others are allowed."""
    schema: dict[str, Any] = {"type": "object", "properties": {**required, **(optional or {})}}
    if required:
        schema["required"] = sorted(required)
    return {**schema, "additionalProperties": more}


def listing(name: str, items: Schema) -> Schema:
    """An object with one list."""
    return of({name: {"type": "array", "items": items}})


def reference(name: str) -> Schema:
    """One of `COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


SNAPSHOT_PATH = Parameter("number", NUMBER, "The number of a retained snapshot.", required=True)

COMPONENTS: dict[str, Schema] = {
    "Error": of(
        {"error": of({"code": TEXT, "message": TEXT, "hint": TEXT})},
    ),
    "MoltworkerError": {
        "description": "The error as moltworker's clients read it, and our code and hint beside it.",
        **of({"error": TEXT}, optional={"code": TEXT, "hint": TEXT, "success": FLAG, "details": TEXT}, more=True),
    },
    "Snapshot": of(
        {
            "sequence": COUNT,
            "epoch": COUNT,
            "manifest": TEXT,
            "base": MAYBE_TEXT,
            "taken_at": SECONDS,
            "committed_at": SECONDS,
            "files": COUNT,
            "bytes": COUNT,
            "reason": TEXT,
            "consistent": {**FLAG, "description": "The agent was held still meanwhile."},
            "torn": {**COUNT, "description": "Files that never held still while they were read."},
            "promoted": {**FLAG, "description": "False: kept aside by the shrink guard."},
            "damaged": FLAG,
            "pin": {**TEXT, "description": "Empty, or why retention does not drop it."},
            "note": TEXT,
            "agent": TEXT,
            "agent_version": TEXT,
            "home": {**TEXT, "description": "The disk that it was taken on."},
        }
    ),
    "Change": of(
        {
            "path": {**TEXT, "description": r"Bytes that are not UTF-8 are written \xNN, a backslash \\."},
            "what": {"enum": ["added", "changed", "removed"]},
            "before": {**MAYBE_COUNT, "description": "Bytes before; null: not there."},
            "after": {**MAYBE_COUNT, "description": "Bytes after; null: not there."},
        }
    ),
    "Problem": of({"code": TEXT, "message": TEXT, "hint": TEXT, "since": SECONDS}),
    "Agent": of({"state": TEXT, "pid": MAYBE_COUNT, "detail": TEXT}),
    "Maintenance": of({"on": FLAG, "reason": TEXT, "since": MAYBE_SECONDS}),
    "LogLine": of({"number": COUNT, "at": SECONDS, "text": TEXT}),
    "AuditEntry": of(
        {
            "at": SECONDS,
            "who": TEXT,
            "peer": TEXT,
            "method": TEXT,
            "route": TEXT,
            "parameters": {"type": "object"},
            "outcome": {"enum": ["done", "failed", "refused"]},
            "status": COUNT,
            "code": TEXT,
            "seconds": {"type": "number", "minimum": 0},
        },
        optional={"suppressed": {**COUNT, "description": "Refusals before this one that were not written down."}},
    ),
}
