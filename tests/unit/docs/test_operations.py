"""The guide knows every code that an operator may meet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[3]
GUIDE = PROJECT / "docs" / "operations.md"


def codes(source: Path) -> Iterator[str]:
    """Codes of errors (`code = "..."` in a class) and of problems (the first argument of `problems.report`)."""
    tree = ast.parse(source.read_text("utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                if (
                    isinstance(statement, ast.Assign)
                    and [target.id for target in statement.targets if isinstance(target, ast.Name)] == ["code"]
                    and isinstance(statement.value, ast.Constant)
                ):
                    yield str(statement.value.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "report":
            match node.args[:1]:
                case [ast.Constant(value=str(code))]:
                    yield code
                case [ast.Name(id=name)] if name in constants:
                    yield constants[name]


def test_the_guide_explains_every_code() -> None:
    from supervisor.health.agent import SICK

    found = {code for source in (PROJECT / "supervisor").rglob("*.py") for code in codes(source)}
    found |= {code for code, _, _ in SICK.values()}
    assert len(found) > 20, "the search itself works"
    explained = set(re.findall(r"`([a-z][a-z-]*)`", GUIDE.read_text("utf-8")))
    assert found - explained == set(), "docs/operations.md does not say what these mean"
