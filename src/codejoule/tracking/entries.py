"""The entries of a run's journal: one frozen dataclass for each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from codejoule.domain import (
    Completion,
    Cooling,
    EnergyReading,
    EnergyScope,
    EnergySource,
    IdleSource,
    JudgedSample,
    PowerSample,
    Running,
    from_json,
    to_json,
)


class Entry:
    """One line of a journal."""

    kind: ClassVar[str]
    """Its name in the file."""
    of_round: ClassVar[bool] = False
    """Whether each repair round has its own."""

    def payload(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain: dict[str, Any] = to_json(self)
        return plain

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any]) -> Self:
        """The inverse; KeyError, TypeError or ValueError for the payload of another version."""
        entry: Self = from_json(cls, payload)
        return entry


class CooledDown(Cooling, Entry):
    """A wait for the GPUs to cool down, before anything was loaded."""

    kind = "cooldown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized(Entry):
    """The weights were quantized."""

    kind = "quantize"
    reading: EnergyReading
    """Energy and time of it."""
    earlier: bool
    """Whether another run did so, whose checkpoint this one found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFacts:
    """What metered a run."""

    source: EnergySource
    """How the energy of generation is obtained."""
    scope: EnergyScope
    """Which devices it covers."""
    devices: tuple[str, ...]
    """Those devices."""
    uuids: tuple[str, ...] = ()
    """UUIDs of the GPUs among them whose counters are read."""


UNPROVEN = "none: served"
"""Proof of a model of which its server's word is all there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Entry):
    """A model was made ready."""

    kind = "load"
    reading: EnergyReading | None
    """Energy and time of it; None for one that was served already, or loaded by an earlier job."""
    model: Mapping[str, Any]
    """What was loaded, or is served, as ``model.json`` has it."""
    meter: MeterFacts
    """What meters the run from here on."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return str(self.model["device"])

    @property
    def proof(self) -> str:
        """What shows that a server serves what the configuration says."""
        return str(self.model.get("proof", UNPROVEN))

    @property
    def taken_over(self) -> bool:
        """Whether an earlier job had loaded it."""
        return bool(self.model.get("taken_over"))

    @property
    def dtype(self) -> str:
        """Dtype of everything unquantized."""
        return str(self.model["dtype"])

    @property
    def kernels(self) -> str:
        """The classes of its linear layers."""
        return ", ".join(self.model["kernels"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled(Entry):
    """The engine compiled and captured what it then runs."""

    kind = "compile"
    reading: EnergyReading
    """Energy and time of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmedUp(Entry):
    """Batches were decoded only to warm up the caches."""

    kind = "warmup"
    reading: EnergyReading
    """Energy and time of them."""


@dataclass(frozen=True, slots=True)
class _Facts(Entry):
    """Facts whose names their room chooses."""

    facts: Mapping[str, Any]
    """The payload."""

    def payload(self) -> dict[str, Any]:
        return dict(self.facts)

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any]) -> Self:
        return cls(payload)


class EngineSetUp(_Facts):
    """How the engine decodes, as ``engine.json`` has it."""

    kind = "engine"


class SandboxSetUp(_Facts):
    """What isolates the samples, as ``sandbox.json`` has it."""

    kind = "sandbox"

    @property
    def launcher(self) -> str:
        """What starts the sandbox."""
        return str(self.facts["launcher"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle(Entry):
    """The GPUs at rest, before the first batch."""

    kind = "idle"
    power_w: float | None
    """Idle power of the GPUs in use [W]."""
    temperature_c: float | None
    """Temperature of the warmest of them [degrees Celsius]."""
    source: IdleSource | None = None
    """How the power came about; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFacts:
    """Where a window lies in the work of an engine that refills. What such an engine was given in
    one go is a session: a killed run is continued with another."""

    places: tuple[int, ...]
    """Of the sequences that ended in it, among the run's requests."""
    begin_s: float
    """Its beginning [s after the session's]; 0 for the first."""
    end_s: float
    """Its end [s after the session's beginning]."""
    end: float
    """Its end on the clock of the sequences' paces."""
    at_once: int
    """How many sequences ran at once, at most."""
    running: tuple[Running, ...]
    """Sequences that ran on at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Entry):
    """An accounting window: sequences decoded together, or those that ended in a slice of the time
    of an engine that refills; what was generated and what it cost."""

    kind = "batch"
    of_round = True
    batch: int
    """Number of the planned batch, or of the slice, from 0."""
    first: int = 0
    """Where in the planned batch they begin: above 0 for a later part of one that memory was too
    small for."""
    completions: tuple[Completion, ...]
    """One per request, in order; of a slice, in the order in which they ended."""
    reading: EnergyReading
    """Energy and time of it."""
    positions: int | None = None
    """Token positions that the model computed for them; None where the engine does not tell."""
    memory_peak_bytes: int | None
    """Largest memory so far in the process that ran it [bytes]; None where not known."""
    slice: SliceFacts | None = None
    """None for sequences that were decoded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedSteps(Entry):
    """An accounting window of training: steps of the optimizer that followed one another."""

    kind = "train"
    attempt: int
    """Number of the attempt, from 1: training that was broken off begins anew."""
    losses: tuple[float, ...]
    """Mean cross-entropy per counted token in each step [nat]."""
    tokens: int
    """Tokens of their texts, padding not counted."""
    learned_tokens: int
    """Those of them that the loss counts."""
    positions: int
    """Token positions that the model computed, padding included."""
    reading: EnergyReading
    """Energy and time of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Entry):
    """An adapter was trained, and lies beside the journal."""

    kind = "trained"
    attempt: int
    """The attempt that did it."""
    facts: Mapping[str, Any]
    """What the adapter says of itself."""
    reading: EnergyReading
    """A window around all steps, which their windows must add up to."""
    memory_peak_bytes: int | None
    """Largest memory in the process that trained [bytes]; None where not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory(Entry):
    """An attempt that ran out of memory."""

    kind = "out_of_memory"
    during: str
    """What was tried: ``batch``, ``warmup`` or ``compile``."""
    sequences: int
    """How many at once."""
    reduced_to: int
    """How many are decoded at once from then on."""
    reading: EnergyReading | None
    """The window around the attempt; None where it had none."""
    error: str
    """PyTorch's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(Entry):
    """Power samples since the last entry of them."""

    kind = "power"
    samples: tuple[PowerSample, ...]
    """In the order they were taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Entry):
    """Samples judged within one window of energy."""

    kind = "verdicts"
    of_round = True
    source: EnergySource
    """How the energy of judging was obtained."""
    verdicts: tuple[JudgedSample, ...]
    """In the order they ended."""
    concurrent: tuple[str, ...] = ()
    """Other jobs of codejoule at work meanwhile."""
    host: str | None = None
    """Name of the machine that judged them; None in journals of earlier versions."""
    cpu: str | None = None
    """Its processor."""


class ShownJudged(Judged):
    """Samples judged by the shown tests, between two repair rounds."""

    kind = "shown_verdicts"
