"""Why the energy of a run may not be what it seems, in a form that programs read."""

import math
from array import array
from collections.abc import Collection, Iterable
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codejoule.domain.energy import EnergyReading

SCHEMA_VERSION = 2
"""Version of what a run leaves behind and of the JSON of commands; runs of version 1 do not state
it. A change of what a name means raises it; a new name does not."""

UNCERTAIN_SHARE = 0.02
"""Relative standard uncertainty of a run's energy above which its windows were too short."""

OK = "ok"


class Doubt(Enum):
    """A reason to doubt that a run's energy of generation is what its configuration takes."""

    estimate = "estimate"
    """Worked out from CPU time."""
    replay = "replay"
    """A recording stood in for the counters."""
    throttled = "throttled"
    """The driver held a GPU's clocks down: heat, or a power brake. The board's own power limit is
    part of the card and is none."""
    shared_gpu = "shared_gpu"
    """A process that is not part of the run computed on one of its GPUs."""
    concurrent = "concurrent"
    """Other jobs of codejoule worked on the machine."""
    too_short = "too_short"
    """Windows in which the counter told nothing, or an energy less certain than
    `UNCERTAIN_SHARE`."""
    crosscheck = "crosscheck"
    """The second method differs by more than ``meter.crosscheck_threshold``."""
    reduced_batch = "reduced_batch"
    """Memory was too small, and fewer were decoded at once than the configuration says."""

    @property
    def words(self) -> str:
        """What it means for whoever uses the figure."""
        return _WORDS[self]


_WORDS = {
    Doubt.estimate: "energy is an estimate from CPU time",
    Doubt.replay: "energy is a recording's",
    Doubt.throttled: "the GPU was slowed down by heat or its power supply",
    Doubt.shared_gpu: "another process used the GPU",
    Doubt.concurrent: "other jobs ran on the machine",
    Doubt.too_short: "windows were too short for the energy counter",
    Doubt.crosscheck: "two ways of measuring the energy disagree",
    Doubt.reduced_batch: "memory was too small for the batch",
}

UNMEASURED = frozenset({Doubt.estimate, Doubt.replay})
"""Doubts about a source of energy and not about one run. Figures of one source can be compared."""


def doubts(
    readings: Iterable["EnergyReading"],
    *,
    crosscheck_differs: bool = False,
    concurrent: bool = False,
    reduced_batch: bool = False,
) -> tuple[Doubt, ...]:
    """Collect the doubts about a run.

    Parameters
    ----------
    readings : iterable of EnergyReading
        Its windows of generation, at least one.
    crosscheck_differs, concurrent, reduced_batch : bool
        What the windows do not know.

    Returns
    -------
    tuple of Doubt
        In the order of `Doubt`; empty where there is none.

    Notes
    -----
    The uncertainty of a run is the root of the sum of its windows' squares: windows that
    follow one another share an edge, where one has too much of what the other lacks, so this errs
    on the large side.
    """
    found: set[Doubt] = set()
    energy_j, uncertainties_j = 0.0, array("d")
    for reading in readings:
        found |= {doubt for doubt in UNMEASURED if doubt.value == reading.source.value}
        found.update(reading.doubts)
        energy_j += reading.energy_j
        uncertainties_j.append(reading.uncertainty_j or 0.0)
    uncertain_j = math.hypot(*uncertainties_j)
    if math.isnan(energy_j) or uncertain_j > UNCERTAIN_SHARE * energy_j:
        found.add(Doubt.too_short)
    told = {
        Doubt.crosscheck: crosscheck_differs,
        Doubt.concurrent: concurrent,
        Doubt.reduced_batch: reduced_batch,
    }
    found |= {doubt for doubt, holds in told.items() if holds}
    return tuple(doubt for doubt in Doubt if doubt in found)


def validity(found: Collection[Doubt]) -> str:
    """The tag ``codejoule.validity``: ``ok``, or the doubts with commas between them."""
    return ",".join(doubt.value for doubt in found) or OK


def read_validity(texts: Iterable[str | None]) -> tuple[Doubt, ...]:
    """The doubts of several runs' tags; one that this version does not know is left out, and so is
    a run of before there was a tag."""
    named = {name for text in texts if text for name in text.split(",")}
    return tuple(doubt for doubt in Doubt if doubt.value in named)
