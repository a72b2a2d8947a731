"""What is known of the measures that hold the agent in: for `/status`, and as problems where one could be on."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.health.problems import Problems
from supervisor.health.status import Measure
from supervisor.init.cell.measure import Finding


class Isolation:
    """The newest finding of each measure."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._findings: dict[str, Finding] = {}

    def note(self, findings: Iterable[Finding]) -> None:
        """These were found now."""
        for finding in findings:
            self._findings[finding.measure] = finding
            code = f"isolation-{finding.measure}"
            if finding.on or not finding.hint:
                self._problems.clear(code)
            else:
                self._problems.report(code, f"{finding.measure} is off: {finding.reason}", finding.hint)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """As `/status` shows them."""
        return tuple(
            Measure(finding.measure, "on" if finding.on else "off", finding.reason)
            for finding in self._findings.values()
        )
