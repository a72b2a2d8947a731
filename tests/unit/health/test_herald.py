from supervisor.health.herald import Herald
from supervisor.init.notify import Notifier
from supervisor.phases import Phase


class Heard(Notifier):
    """Keeps what it would have sent."""

    def __init__(self, watchdog_seconds: float = 0.0) -> None:
        super().__init__("", watchdog_seconds)
        self.said: list[str] = []

    def _send(self, text: str) -> None:
        self.said.append(text)


def test_one_life_is_told_in_the_managers_words() -> None:
    heard = Heard()
    herald = Herald(heard)
    for phase in list(Phase)[1:]:
        herald.entered(phase)
    assert [text for text in heard.said if not text.startswith("EXTEND")] == [
        "STATUS=claim",
        "STATUS=restore",
        "STATUS=configure",
        "STATUS=launch",
        "STATUS=serve",
        "READY=1",
        "STATUS=drain",
        "STOPPING=1",
        "STATUS=seal",
        "STATUS=exit",
    ]


def test_patience_is_asked_for_only_while_something_may_take_long() -> None:
    heard = Heard()
    herald = Herald(heard)
    for phase, asks in [(Phase.RESTORE, True), (Phase.SERVE, False), (Phase.SEAL, True), (Phase.EXIT, False)]:
        herald.entered(phase)
        heard.said.clear()
        herald.pat()
        assert heard.said == (["EXTEND_TIMEOUT_USEC=30000000"] if asks else []), phase


def test_the_managers_watchdog_is_fed_where_it_wants_to_be() -> None:
    heard = Heard(watchdog_seconds=20)
    herald = Herald(heard)
    herald.entered(Phase.SERVE)
    heard.said.clear()
    herald.pat()
    assert heard.said == ["WATCHDOG=1"]
