"""One published figure: what was measured, how, by whom, and what it took."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from codejoule.config import UserError

FIGURES_SCHEMA_VERSION = 1
"""Version of the documented layout. It grows when a column changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """A row of the documented layout. What is not known is None or empty.

    Raises `UserError` for a value that cannot be.
    """

    model: str
    """Id on the hub, the name of a preset, or another name with its `architecture`."""
    card: str
    """GPU, as the driver or the publication calls it; ``cpu`` without one."""
    engine: str
    """What ran the model: a choice of the group ``engine``, or another's name."""
    quantization: str
    """``none``, another choice of the group ``quant``, or another's name."""
    batch: int
    """Sequences that are decoded at once."""
    energy_per_output_token_j: float
    """Energy of generation, prefill included, over the output tokens [J]."""
    method: str
    """How energy was measured, in words."""
    source: str
    """Where the figure is printed: a citation or an address."""
    cards: int = 1
    """GPUs that worked together."""
    suite: str = ""
    """What was asked: the name of a benchmark or a data set."""
    tasks: int | None = None
    """Tasks of that."""
    prompt_tokens: float | None = None
    """Mean length of a prompt [tokens]."""
    output_tokens: float | None = None
    """Mean length of an answer [tokens]."""
    throughput_tokens_per_s: float | None = None
    """Output tokens per second of the whole batch."""
    pass_at_1: float | None = None
    """Share of the tasks solved."""
    pass_at_1_ci_low: float | None = None
    """Lower end of its 95 % interval."""
    pass_at_1_ci_high: float | None = None
    """Upper end."""
    runs: int | None = None
    """Runs that the figures are means over."""
    dtype: str = ""
    """Dtype of what is not quantized."""
    weights: str = ""
    """``hub`` for a trained model's, ``random`` for random ones, as `model.weights` has it."""
    length: str = ""
    """``fixed`` where all answers have one length, ``free`` where the model ends them."""
    settings: str = ""
    """What else tells two rows apart, e.g. ``eager``."""
    validity: str = ""
    """``ok``, or what makes the energy doubtful."""
    version: str = ""
    """Version of what ran and measured it."""
    date: str = ""
    """Day of the measurement, ``2026-12-01``."""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model's ``config.json``, for a model that no preset describes."""

    def __post_init__(self) -> None:
        for name in REQUIRED:
            if getattr(self, name) in ("", None):
                raise UserError(f"{name} is empty; every row needs it")
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}={value}: must be at least 1")
        for name in MEASURED:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name}={value:g}: must be above 0; leave out what is not known")
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name}={value:g}: a share lies between 0 and 1")

    @property
    def configuration(self) -> tuple[object, ...]:
        """What no two rows of one source may have in common."""
        return (
            self.model, self.card, self.cards, self.engine, self.quantization, self.batch,
            self.suite, self.dtype, self.weights, self.length, self.settings, self.source,
        )  # fmt: skip

    def as_row(self) -> dict[str, Any]:
        """What is known of it, by the names of the columns."""
        values = {name: getattr(self, name) for name in COLUMNS}
        return {name: value for name, value in values.items() if value not in (None, "", {})}

    def as_text(self) -> str:
        """The same as one line of JSON."""
        return json.dumps(self.as_row(), sort_keys=True)

    @classmethod
    def from_row(cls, cells: Mapping[str, Any]) -> "PublishedFigure":
        """A row of the documented layout; cells may be texts, as CSV has them.

        Raises `UserError` for a column that is not known, one that is missing, and a value that
        cannot be.
        """
        known = {name: value for name, value in cells.items() if value not in (None, "")}
        strangers = sorted(set(known) - set(COLUMNS))
        if strangers:
            raise UserError(
                f"no such column: {', '.join(map(str, strangers))}; the columns are "
                f"{', '.join(COLUMNS)}"
            )
        missing = [name for name in REQUIRED if name not in known]
        if missing:
            raise UserError(f"{', '.join(missing)} missing; every row needs {', '.join(REQUIRED)}")
        values: dict[str, Any] = {name: _READERS[name](name, v) for name, v in known.items()}
        return cls(**values)


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise UserError(f"{name}: a text is expected, not {value!r}")
    return str(value).strip()


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{name}={value!r}: not a number") from None


def _count(name: str, value: Any) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise UserError(f"{name}={value!r}: not a whole number")
    return int(number)


def _fields(name: str, value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{name}: the fields of the model's config.json are expected, as JSON")
    return found


_COUNTS = ("batch", "cards", "tasks", "runs")
MEASURED = (
    "energy_per_output_token_j", "prompt_tokens", "output_tokens", "throughput_tokens_per_s",
)  # fmt: skip
"""Figures above 0, of which repeats have a mean."""
_SHARES = ("pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high")
COLUMNS = tuple(each.name for each in fields(PublishedFigure))
"""Columns of the documented layout, in its order."""
REQUIRED = COLUMNS[:8]
"""Those that every row has."""
_READERS = (
    dict.fromkeys(COLUMNS, _text)
    | dict.fromkeys(_COUNTS, _count)
    | dict.fromkeys([*MEASURED, *_SHARES], _number)
    | {"architecture": _fields}
)
