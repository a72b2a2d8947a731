from pathlib import Path

import aiohttp

from supervisor.http.about import About
from supervisor.http.api import Api, description
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.openapi import render
from supervisor.http.tasks import Unhurried
from tests.unit.http.admin import AdminOperations
from tests.unit.http.support import front_door, token_keeper

FILE = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_file_in_docs_is_what_the_routes_say() -> None:
    assert FILE.read_text() == render(description()), "make openapi writes it anew"


def test_the_page_in_docs_has_every_path() -> None:
    page = FILE.with_name("api.md").read_text()
    words = {"{requestId}": "ID", "{deviceId}": "ID", "{number}": "NUMBER", "{path}": "PATH"}
    for path in description()["paths"]:
        for name, word in words.items():
            path = path.replace(name, word)
        assert any(f"`{path}{end}" in page for end in ("`", "?")), path


async def test_every_path_of_the_api_is_described_with_its_parameters() -> None:
    endpoints = Endpoints(token_keeper())
    Api(AdminOperations(), Unhurried()).add_to(endpoints)
    for route in endpoints.routes():
        assert isinstance(route.about, About), f"{route.method} {route.path} is not described"
        named = {part.strip("{}").partition(":")[0] for part in route.path.split("/") if part.startswith("{")}
        assert named == {parameter.name for parameter in route.about.path}, route.path
        assert all(parameter.required for parameter in route.about.path)
        assert (route.access is Access.OPEN) == (route.path in ("/sandbox-health", "/api/status"))


async def test_a_running_door_serves_the_same_to_operators_only() -> None:
    async with (
        front_door(operations=AdminOperations()) as door,
        aiohttp.ClientSession() as session,
        session.get(door.url + "/api/admin/openapi.json") as answer,
    ):
        assert await answer.json() == description()
    async with (
        front_door(operations=AdminOperations(), keeper=token_keeper()) as door,
        aiohttp.ClientSession() as session,
        session.get(door.url + "/api/admin/openapi.json") as answer,
    ):
        assert answer.status == 401


def test_every_reference_leads_somewhere() -> None:
    document = description()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    for reference in set(references(document)):
        place: object = document
        for name in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            place = place[name]
    identifiers = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(identifiers) == len(set(identifiers))
