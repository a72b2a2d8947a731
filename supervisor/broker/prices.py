"""What tokens cost, from a table that the operator gives: prices change too often to stand in a program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from supervisor.broker.usage import Usage
from supervisor.errors import SettingsError

_FIELDS = ("input", "output", "cache_read", "cache_write")
PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float

    def of(self, usage: Usage) -> float:
        """Dollars."""
        return (
            usage.input * self.input
            + usage.output * self.output
            + usage.cache_read * self.cache_read
            + usage.cache_write * self.cache_write
        ) / PER


class Prices:
    """By the beginning of a model's name, the longest that fits; a model that none fits costs what the dearest does,
    or an agent could get around a budget by naming another model."""

    def __init__(self, table: dict[str, Price]) -> None:
        self._table = dict(sorted(table.items(), key=lambda row: -len(row[0])))
        self._dearest = (
            Price(*(max(getattr(price, field) for price in table.values()) for field in _FIELDS)) if table else None
        )

    def __bool__(self) -> bool:
        return bool(self._table)

    def dollars(self, model: str, usage: Usage) -> float:
        """What `usage` of `model` costs; 0 where there is no table."""
        for start, price in self._table.items():
            if model.startswith(start) or model.rpartition("/")[2].startswith(start):
                return price.of(usage)
        return self._dearest.of(usage) if self._dearest else 0.0

    def most(self, usage: Usage) -> float:
        """What `usage` costs at most, whatever the model, and whether its input is cached or not."""
        if self._dearest is None:
            return 0.0
        dear = self._dearest
        return (usage.input * max(dear.input, dear.cache_read, dear.cache_write) + usage.output * dear.output) / PER


def read_prices(path: Path) -> Prices:
    """A TOML file: `["claude-sonnet"]`, below it `input`, `output`, and, where they differ from `input`, `cache_read`
    and `cache_write`, in dollars for a million tokens. Raises `SettingsError`."""
    import tomllib

    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"MOLTINIT_PRICES ({path}) cannot be read: {why}", hint=_HINT) from error
    if not document:
        raise SettingsError(f"MOLTINIT_PRICES ({path}) has no model", hint=_HINT)
    return Prices({model: _price(path, model, row) for model, row in document.items()})


_HINT = 'write it as: ["claude-sonnet"], then input = 3.0 and output = 15.0 (dollars for a million tokens)'


def _price(path: Path, model: str, row: object) -> Price:
    if not isinstance(row, dict) or set(row) - set(_FIELDS) or not {"input", "output"} <= set(row):
        raise SettingsError(
            f"MOLTINIT_PRICES ({path}): {model!r} needs input and output, no more than {_FIELDS}", hint=_HINT
        )
    for field, value in row.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1_000_000:
            raise SettingsError(f"MOLTINIT_PRICES ({path}): {model}.{field} = {value!r} is no price", hint=_HINT)
    plain = float(row["input"])
    return Price(plain, float(row["output"]), float(row.get("cache_read", plain)), float(row.get("cache_write", plain)))
