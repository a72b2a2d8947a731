"""The documentation, the dashboard and the alert rules speak of the metrics that there are."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.health.metrics_in_use import exported

DOCS = Path(__file__).parents[3] / "docs"
NAMES = {entry.name: entry for entry in exported()}

_ROW = re.compile(r"\| `(moltinit_\w+)` \| (\w+) \| (.*?) \| (.*) \|")
_USE = re.compile(r"(moltinit_\w+)(?:\{([^}]*)\})?")


def test_the_table_lists_every_exported_name_and_no_other() -> None:
    rows = _ROW.findall((DOCS / "observability.md").read_text("utf-8"))
    listed = {(name, kind, labels.replace("`", "").replace("-", ""), text) for name, kind, labels, text in rows}
    assert listed == {(e.name, e.kind, ", ".join(e.labels), e.text) for e in NAMES.values()}
    assert len(rows) == len(listed)


def _dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8"))
    return document


def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DOCS / "alerts.yml").read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _expressions() -> list[str]:
    targets = [target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", ())]
    return [*targets, *(rule["expr"] for rule in _rules())]


@pytest.mark.parametrize("expression", _expressions())
def test_dashboard_and_alerts_use_names_and_labels_that_exist(expression: str) -> None:
    uses = _USE.findall(expression)
    assert uses
    for used, matchers in uses:
        entry = NAMES.get(used) or NAMES.get(re.sub(r"_(bucket|sum|count)$", "", used))
        assert entry is not None, f"{used} is not exported"
        labels = set(re.findall(r"(\w+)\s*[=!]~?", matchers)) - {"job", "instance"}
        assert labels <= set(entry.labels), f"{used} has no such labels: {labels}"
    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        known = {label for used, _ in uses for label in _labels(used)} | {"le", "instance", "job"}
        assert {label.strip() for label in grouping.split(",")} <= known


def _labels(used: str) -> tuple[str, ...]:
    entry = NAMES.get(used) or NAMES[re.sub(r"_(bucket|sum|count)$", "", used)]
    return entry.labels


def test_alerts_speak_of_problems_that_are_documented() -> None:
    documented = set(re.findall(r"`([a-z-]+)`", (DOCS / "observability.md").read_text("utf-8")))
    for rule in _rules():
        for codes in re.findall(r'code=~?"([^"]*)"', rule["expr"]):
            assert set(codes.split("|")) <= documented, codes


def test_every_problem_that_the_daemon_reports_is_documented() -> None:
    table = (DOCS / "observability.md").read_text("utf-8").partition("## Problems")[2].partition("## Metrics")[0]
    documented = set(re.findall(r"`([a-z-]+)`", table))
    reported = set()
    for path in (DOCS.parent / "supervisor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "report":
                reported |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    assert len(reported) > 5
    assert reported <= documented


def test_every_alert_says_what_and_what_to_do() -> None:
    for rule in _rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        for used in re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())):
            assert used in {*(label for name, _ in _USE.findall(rule["expr"]) for label in _labels(name)), "instance"}


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = _dashboard()
    assert dashboard["uid"] == "moltinit"
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
