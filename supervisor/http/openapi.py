"""The OpenAPI 3.1 description, made from the table of routes, so that the two cannot disagree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import supervisor
from supervisor.http.about import About, Parameter, Schema
from supervisor.http.auth import Access
from supervisor.http.endpoints import Route, template

Document = dict[str, Any]

_USUAL = {Access.OPEN: (400,), Access.USER: (400, 401, 403, 429), Access.OPERATOR: (400, 401, 403, 429)}
"""What every path may answer: an unclear request, no key, not from here, too many wrong keys."""

_MEANINGS = {
    400: "The request means nothing; the message says what is wrong with it.",
    401: "Nobody was recognised.",
    403: "Whoever asks may not, or the request may come from another site's page.",
    404: "What is named does not exist.",
    409: "It cannot be done now; the hint says what to do.",
    413: "The body is too large.",
    429: "Too many wrong keys were tried; the answer says when to come back.",
    500: "It failed inside the daemon.",
    502: "The bucket or the agent refused it, or what the bucket holds is damaged.",
    503: "The bucket does not answer, or too much is going on; try again later.",
}


def describe(routes: Iterable[Route], components: dict[str, Schema]) -> Document:
    """The document. Routes without an `About` are left out (pages, probes)."""
    paths: dict[str, Document] = {}
    routes = list(routes)
    for route in routes:
        if route.about is not None:
            paths.setdefault(template(route.path), {})[route.method.lower()] = _operation(route, route.about)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "moltinit",
            "version": supervisor.__version__,
            "summary": "The operator's API of an agent's supervisor.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"access": []}],
        "tags": [{"name": tag} for tag in sorted({_tag(item) for path in paths.values() for item in path.values()})],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": _error_answers(routes),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "MOLTINIT_OPERATOR_TOKEN"},
                "access": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Cf-Access-Jwt-Assertion",
                    "description": "Cloudflare Access; its edge adds it.",
                },
            },
        },
    }


def render(document: Document) -> str:
    """As the file in docs/ has it."""
    return json.dumps(document, indent=2) + "\n"


def _tag(operation: Document) -> str:
    return str(operation["tags"][0])


def _operation(route: Route, about: About) -> Document:
    operation: Document = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{template(route.path)}").strip("_"),
        "summary": about.summary,
        "tags": [about.tag],
    }
    if route.access is Access.OPEN:
        operation["security"] = []
    parameters = [_parameter(one, "path") for one in about.path] + [_parameter(one, "query") for one in about.query]
    if parameters:
        operation["parameters"] = parameters
    if about.body is not None:
        required = bool(about.body.get("required") or about.body.get("minProperties"))
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": about.body}}}
    operation["responses"] = _responses(route, about)
    return operation


def _parameter(parameter: Parameter, where: str) -> Document:
    return {
        "name": parameter.name,
        "in": where,
        "required": parameter.required,
        "description": parameter.about,
        "schema": parameter.schema,
    }


def _responses(route: Route, about: About) -> Document:
    responses = {
        str(status): {
            "description": answer.about,
            "content": {answer.media_type: {"schema": answer.schema if answer.schema is not None else {}}},
        }
        for status, answer in about.answers.items()
    }
    for status in sorted({*_USUAL[route.access], *about.errors, *((413,) if about.body is not None else ())}):
        # What is refused at the door has the door's shape.
        kind = "Error" if about.error is None or status in (401, 403, 429) else "OwnError"
        responses[str(status)] = {"$ref": f"#/components/responses/{kind}{status}"}
    return responses


def _error_answers(routes: Iterable[Route]) -> Document:
    """The answers that errors share, by name: `Error404` in the usual shape, `OwnError404` where a path has its own."""
    usual: Schema = {"$ref": "#/components/schemas/Error"}
    own = next((route.about.error for route in routes if route.about is not None and route.about.error), usual)
    return {
        f"{kind}{status}": {"description": meaning, "content": {"application/json": {"schema": schema}}}
        for status, meaning in _MEANINGS.items()
        for kind, schema in (("Error", usual), ("OwnError", {"anyOf": [own, usual]}))
    }
