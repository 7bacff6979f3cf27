"""The verdicts on a run's samples, as its journal has them."""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from codejoule.common.packed import Packed
from codejoule.domain import EnergySource, JudgedSample, Status
from codejoule.tracking.entries import Judged

Key = tuple[str, int]
"""A task, and the number of its sample."""


class Verdicts(Mapping[Key, JudgedSample]):
    """The verdicts of a journal, without ``details`` and ``tests``, which `whole` reads there.
    Measured energy of evaluation is shared out among all of a machine by CPU time."""

    def __init__(self, entries: Sequence[Judged]) -> None:
        self._entries = entries
        self._entry_of, machine_of = array("I"), array("I")
        self.sources: dict[str, EnergySource] = {}
        """How energy was obtained on each machine."""
        self.hosts: dict[str, str] = {}
        """The machines that judged, with their processors."""
        self.concurrent: set[frozenset[str]] = set()
        """Other jobs of codejoule that were at work together during a metered window."""
        first_source: dict[str, EnergySource] = {}
        kinds: set[EnergySource] = set()

        def told() -> Iterator[JudgedSample]:
            for number, entry in enumerate(entries):
                self.sources[entry.host or ""] = entry.source
                first_source.setdefault(entry.host or "", entry.source)
                if entry.host is not None:
                    self.hosts[entry.host] = entry.cpu or ""
                self.concurrent.add(frozenset(entry.concurrent))
                kinds.add(entry.source)
                machine = list(first_source).index(entry.host or "")
                for verdict in entry.verdicts:
                    self._entry_of.append(number)
                    machine_of.append(machine)
                    yield verdict

        self._found = Packed(JudgedSample, told(), without=("details", "tests"))
        self.source = kinds.pop() if len(kinds) == 1 else None
        """That of all machines; None where they differ, or where nothing was judged."""
        machines = np.array(machine_of)
        self._energy_j = self._numbers("energy_j")
        self._share_out(machines, list(first_source.values()))
        self._index(machines)

    def _numbers(self, name: str) -> NDArray[np.float64]:
        numbers = (getattr(verdict, name) for verdict in self._found)
        return np.fromiter((math.nan if one is None else one for one in numbers), dtype=float)

    def _share_out(self, machines: NDArray[np.uint32], sources: Sequence[EnergySource]) -> None:
        """The journal has energy in slices of time, and what a slice took is also that of samples
        that ended in a later one."""
        cpu_s = self._numbers("evaluation_cpu_s")
        for machine, source in enumerate(sources):
            own = machines == machine
            known_j = self._energy_j[own & ~np.isnan(self._energy_j)]
            total_s = sum(cpu_s[own].tolist())
            if source is not EnergySource.estimate and known_j.size and total_s > 0:
                shared_j = sum(known_j.tolist()) * (cpu_s[own] / total_s)
                self._energy_j[own] = np.where(shared_j == 0, math.nan, shared_j)
        if self.source is None:
            self._energy_j[:] = math.nan

    def _index(self, machines: NDArray[np.uint32]) -> None:
        """Note where each sample's verdict is: one that could first not be judged has two."""
        judged = np.fromiter((v.status is not Status.unjudged for v in self._found), dtype=bool)
        self._rows = array("I")
        self._slots: dict[str, array[int]] = {}
        for row in np.lexsort((machines, judged)):
            verdict = self._found[row]
            slots = self._slots.setdefault(verdict.task_id, array("i"))
            slots.extend([-1] * (verdict.sample + 1 - len(slots)))
            if slots[verdict.sample] < 0:
                slots[verdict.sample] = len(self._rows)
                self._rows.append(row)
            else:
                self._rows[slots[verdict.sample]] = row

    @property
    def energy_j(self) -> float | None:
        """Of judging all samples [J]; None where it is known of none."""
        energy_j = self._energy_j[np.array(self._rows, dtype=np.int64)]
        known_j = energy_j[~np.isnan(energy_j)]
        return sum(known_j.tolist()) if known_j.size else None

    def whole(self, key: Key) -> JudgedSample:
        """The verdict with all that the journal has of it."""
        entry = self._entries[self._entry_of[self._row(key)]]
        return next(v for v in reversed(entry.verdicts) if (v.task_id, v.sample) == key)

    def _row(self, key: Key) -> int:
        task_id, sample = key
        slots = self._slots[task_id]
        if sample >= len(slots) or slots[sample] < 0:
            raise KeyError(key)
        return self._rows[slots[sample]]

    def __getitem__(self, key: Key) -> JudgedSample:
        row = self._row(key)
        energy_j = float(self._energy_j[row])
        return replace(self._found[row], energy_j=None if math.isnan(energy_j) else energy_j)

    def __iter__(self) -> Iterator[Key]:
        for row in self._rows:
            verdict = self._found[row]
            yield verdict.task_id, verdict.sample

    def __len__(self) -> int:
        return len(self._rows)


class RepairedVerdicts(Verdicts):
    """The verdicts that count after repair rounds, those on the last program of each sample, with
    all that was spent on its programs but for verdicts on such as were repaired: those only tell
    what each round has gained. Energy is known where it was obtained in one way."""

    def __init__(self, rounds: Sequence[Verdicts], shown: Sequence[Verdicts]) -> None:
        # Not the parent's: these verdicts have been read.
        self._last = {key: verdicts for verdicts in rounds for key in verdicts}
        self._shown = shown
        every = [verdicts for verdicts in (*rounds, *shown) if verdicts.sources]
        self.sources = {host: s for one in every for host, s in one.sources.items()}
        self.hosts = {host: cpu for one in every for host, cpu in one.hosts.items()}
        self.concurrent = {jobs for one in every for jobs in one.concurrent}
        ways = {verdicts.source for verdicts in every}
        self.source = ways.pop() if len(ways) == 1 else None

    @property
    def energy_j(self) -> float | None:
        """Of judging all samples by both kinds of tests [J]; None where it is known of none."""
        known_j = [verdict.energy_j for verdict in self.values() if verdict.energy_j is not None]
        return sum(known_j) if known_j else None

    def whole(self, key: Key) -> JudgedSample:
        """As of `Verdicts`."""
        return self._last[key].whole(key)

    def __getitem__(self, key: Key) -> JudgedSample:
        return self._with_cost(key, self._last[key][key])

    def __iter__(self) -> Iterator[Key]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def _with_cost(self, key: Key, verdict: JudgedSample) -> JudgedSample:
        every = [verdict, *(verdicts[key] for verdicts in self._shown if key in verdicts)]
        known_j = [one.energy_j for one in every if one.energy_j is not None]
        return replace(
            verdict,
            evaluation_s=sum(one.evaluation_s for one in every),
            evaluation_cpu_s=sum(one.evaluation_cpu_s for one in every),
            energy_j=sum(known_j) if known_j and self.source is not None else None,
        )
