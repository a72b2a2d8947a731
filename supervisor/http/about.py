"""What an endpoint is, said beside its route: the OpenAPI description and the rules of the audit log come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]
"""A JSON schema (2020-12)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query or of the path."""

    name: str
    schema: Schema
    about: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: JSON of this schema, or another media type."""

    about: str
    schema: Schema | None = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class About:
    """One method of one path.

    Args:
        tag: the group it is listed under.
        answers: by status.
        errors: statuses of errors that are its own; those that every path may give are added.
        error: the schema of its own errors, where it is not the usual one; there is one other.
        body: the JSON object that it takes; None: it takes no body.
        audited: written to the audit log though it changes nothing.
    """

    summary: str
    tag: str
    answers: Mapping[int, Answer]
    errors: tuple[int, ...] = ()
    error: Schema | None = None
    query: tuple[Parameter, ...] = ()
    path: tuple[Parameter, ...] = ()
    body: Schema | None = field(default=None)
    audited: bool = False
