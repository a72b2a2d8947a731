"""What a page says once, after an action: kept here for a moment, so that no link can put words into its mouth."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from supervisor.http.admin.verdict import Mood

MOST = 64


@dataclass(frozen=True, slots=True)
class Notice:
    """How an action went. `can_undo`: the page offers to take a restore back."""

    mood: Mood
    text: str
    hint: str = ""
    can_undo: bool = False


class Notices:
    """The last few, by an unguessable name."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Notice] = OrderedDict()

    def keep(self, notice: Notice) -> str:
        """The name under which it can be had."""
        name = secrets.token_urlsafe(9)
        self._kept[name] = notice
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> Notice | None:
        """The notice of that name; reloading the page shows it again."""
        return self._kept.get(name)
