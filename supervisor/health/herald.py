"""What a service manager is told in which phase."""

from __future__ import annotations

from supervisor.init.notify import Notifier
from supervisor.phases import Phase

EXTEND_SECONDS = 30.0
"""By which a phase that may take long asks for patience, every second anew: when the daemon hangs, patience ends."""

_LONG = frozenset({Phase.CLAIM, Phase.RESTORE, Phase.CONFIGURE, Phase.LAUNCH, Phase.DRAIN, Phase.SEAL})
_LAST = frozenset({Phase.DRAIN, Phase.SEAL})


class Herald:
    """Translates phases into notifications."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._phase = Phase.BOOT
        self._stopping = False

    def entered(self, phase: Phase) -> None:
        """A phase begins."""
        self._phase = phase
        self._notifier.status(phase.value)
        if phase is Phase.SERVE:
            self._notifier.ready()
        elif phase in _LAST and not self._stopping:
            self._stopping = True
            self._notifier.stopping()
        self._be_patient()

    def pat(self) -> None:
        """The event loop works; to be called every second."""
        if self._notifier.watchdog_seconds:
            self._notifier.alive()
        self._be_patient()

    def _be_patient(self) -> None:
        if self._phase in _LONG:
            self._notifier.extend(EXTEND_SECONDS)
