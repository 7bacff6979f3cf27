"""The figures of one run, from its records and energy readings."""

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codejoule.domain.accuracy import pass_at_1_interval, pass_at_k
from codejoule.domain.completion import Pace, TaskRecord
from codejoule.domain.energy import (
    FIRST_TOKEN,
    EnergyReading,
    EnergyScope,
    EnergySource,
    prefill_part,
)
from codejoule.domain.verdict import Status

J_PER_KWH = 3.6e6
"""Joules in a kilowatt-hour."""
KWH_FROM_J = 1e5
"""Energies from here on are shown in kilowatt-hours."""

_Figures = dict[str, float | None]
"""Metrics by name; None for what was not measured."""

PASS_AT = (1, 5, 10, 25, 50, 100)
"""The k for which pass@k is reported where there are enough samples."""

PERCENTILES = (50, 90, 99)
"""The percentiles that are reported of the times of a run's sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFacts:
    """One accounting window of generation."""

    reading: EnergyReading
    """Its energy and time."""
    output_tokens: tuple[int, ...]
    """Generated tokens of each sequence that it decoded."""
    paces: tuple[Pace, ...] = ()
    """When each of them was decoded; empty where they began together."""
    prompt_tokens: int = 0
    """Tokens of all their prompts, padding not counted."""
    positions: int | None = None
    """Token positions that the model computed, padding and ended rows included; None where the
    engine does not tell."""
    opens: bool = True
    """Whether decoding began with it; False for a later slice of an engine that refills."""
    steady_tokens: float | None = None
    """Tokens generated in it, where all slots were busy from its beginning to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What was measured around the tasks of one run. None is "not measured", never 0."""

    windows: Sequence[WindowFacts]
    """The windows of generation, all of one source and scope."""
    load: EnergyReading | None = None
    """Loading the weights."""
    compile: tuple[EnergyReading, ...] = ()
    """Compiling and capturing what the engine then runs, each time."""
    quantize: EnergyReading | None = None
    """Quantizing the weights, where this run did so."""
    idle_power_w: float | None = None
    """Idle power of the GPUs in use [W]."""
    temperature_start_c: float | None = None
    """Temperature of the warmest GPU in use before the first batch [degrees Celsius]."""
    cooldown_s: float | None = None
    """Time spent waiting for the GPUs to cool down before the run [s]."""
    evaluation_energy_j: float | None = None
    """Energy of judging all samples [J]."""
    evaluation_source: EnergySource | None = None
    """How that energy was obtained."""
    memory_peak_bytes: int | None = None
    """Largest device memory in use [bytes]."""
    valid_tasks: frozenset[str] | None = None
    """Tasks whose canonical solution passes in this environment; None where that is not known."""

    def __post_init__(self) -> None:
        if (self.evaluation_energy_j is None) != (self.evaluation_source is None):
            raise ValueError(
                "evaluation_energy_j and evaluation_source come together or not at all"
            )


class _Columns:
    """What windows are made of, read once: of each column a number for each window or sequence,
    NaN where it was not measured."""

    def __init__(self, windows: Sequence[WindowFacts]) -> None:
        if not windows:
            raise ValueError("a run needs at least one window of generation")
        self._found: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.tokens, self.longest, self.needed = array("q"), array("q"), 0
        self.paced = True
        """Whether the sequences of every window have paces of their own."""
        kinds = set()
        for window in windows:
            reading, tokens = window.reading, window.output_tokens
            kinds.add((reading.source, reading.scope))
            self.paced &= bool(window.paces)
            self.tokens.extend(tokens)
            self.longest.append(max(tokens, default=0))
            self.needed += window.prompt_tokens + sum(max(0, each - 1) for each in tokens)
            self._add(
                latency_s=reading.latency_s, energy_j=reading.energy_j,
                energy_net_j=reading.energy_net_j, integrated_j=reading.integrated_j,
                uncertainty_j=reading.uncertainty_j, zeus_j=reading.zeus_j,
                gpu_j=reading.of_j("gpu"), cpu_j=reading.of_j("cpu"), dram_j=reading.of_j("dram"),
                prefill_j=prefill_part(
                    reading.energy_at_marks_j, reading.marks_s, opens=window.opens
                ),
                first_token_s=reading.marks_s.get(FIRST_TOKEN),
                positions=window.positions, steady_tokens=window.steady_tokens,
            )  # fmt: skip
            for pace in window.paces:
                self._add(ttft_s=pace.ttft_s, decode_s=pace.decode_s)
        if len(kinds) > 1:
            named = sorted(f"{source.value}/{scope.value}" for source, scope in kinds)
            raise ValueError(f"windows of one run differ in source or scope: {', '.join(named)}")
        ((_, self.scope),) = kinds

    def _add(self, **numbers: float | None) -> None:
        for name, number in numbers.items():
            self._found[name].append(math.nan if number is None else number)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return np.array(self._found[name])

    def sum(self, name: str) -> float:
        """NaN where one of the numbers is."""
        return sum(self._found[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What was measured of one repair round."""

    attempts: Sequence[TaskRecord]
    """One record per program that was written in it."""
    energy_generation_j: float
    """Energy of its windows of generation [J]."""
    energy_evaluation_j: float | None
    """Energy of judging its programs by the shown tests [J]; None where that was not measured, or
    not done."""


def run_metrics(
    records: Sequence[TaskRecord],
    facts: RunFacts,
    *,
    rng: np.random.Generator,
    attempts: Sequence[TaskRecord] | None = None,
) -> dict[str, float]:
    """Compute every metric of a run that its facts allow.

    Parameters
    ----------
    records : sequence of TaskRecord, shape (tasks x samples,)
        One record per sample.
    facts : RunFacts
        Energy readings and the like of the same run.
    rng : numpy.random.Generator
        Source of randomness of the bootstrap; used only with several samples per task.
    attempts : sequence of TaskRecord, optional
        One record per sequence of the windows, where a sample has had several (repair rounds) and
        `records` have their sums; by default `records`.

    Returns
    -------
    dict of str to float
        Metric by name; a unit ends each name that has one. A metric whose ingredient was
        not measured is absent.

    Raises
    ------
    ValueError
        If there are no records or windows, windows differ in source or scope, or records and
        windows do not describe the same samples.

    Notes
    -----
    With energies in joules, ``E_total = E_generation + E_evaluation``:

    - ``energy_total_kwh = E_total / 3.6e6`` and ``pass_at_1_per_kwh = pass@1 / energy_total_kwh``
    - ``energy_per_solved_task_j = E_total / solved``, a task being solved when at least one
      of its samples passes
    - ``energy_per_task_j = E_generation / tasks`` and
      ``energy_per_output_token_j = E_generation / output tokens``;
      ``energy_per_token_j = E_generation / (prompt tokens + output tokens)``
    - ``ttft_s`` is the mean over windows of the time to the first token, ``tpot_s`` the mean
      of ``(latency - ttft) / (max(output tokens) - 1)`` over windows with a second token. Where
      the sequences of a window do not begin together, ``ttft_s`` is the mean over sequences,
      and ``tpot_s`` the sum of their times from first to last token over ``sum(output tokens -
      1)``. Then there are the percentiles over sequences, too (``ttft_p50_s``, ...): of
      ``tpot`` as the time from first to last token over ``output tokens - 1``, of ``latency``
      end to end.
    - ``energy_per_output_token_steady_j`` and ``throughput_steady_tokens_per_s`` are energy
      over tokens and tokens over time of the windows that lie within a
      `codejoule.domain.steady` state.
    - ``padding_share = 1 - (prompt tokens + sum(output tokens - 1)) / positions``: what the
      model computed for padding and for rows that had ended.

    ``energy_generation_uncertainty_j`` is the root of the summed squares of the windows' standard
    uncertainties, where all state one; edges that windows share are counted twice.
    ``energy_crosscheck_rel`` is the GPUs' energy by the second method (instantaneous power
    integrated) over that of the counter, minus 1, over all windows of generation.
    ``energy_gpu_zeus_j`` is what Zeus' own windows say of ``energy_gpu_j``: two reads of the same
    counter, at a window's edges.
    ``energy_cpu_j`` and ``energy_dram_j`` are what the CPU's counters say of the same windows;
    they are part of ``energy_generation_j`` where the scope names the CPU, else beside it.

    Prefill and decode energy, ``ttft_s`` and ``tpot_s`` need the first-token mark in every
    window. A reading of NaN counts as not measured. A run with a sample that has no verdict
    has no accuracy.

    ``pass_at_1_valid`` (and so on) is over the ``tasks_valid`` tasks that can be solved in this
    environment, ``pass_at_1`` always over all. ``pass_at_1_plus`` is by the further tests of
    EvalPlus, too, where every task has them; ``pass_at_1``, and what is made from it, is by the
    benchmark's own.
    """
    windows = _Columns(facts.windows)
    _check(records if attempts is None else attempts, windows)
    metrics = _counts(records) | _thinking(records) | _time(windows)
    metrics |= _energy(windows, facts) | _steady_state(windows)
    metrics |= _ratios(metrics)
    return _known(metrics) | judged_metrics(
        records,
        energy_generation_j=metrics["energy_generation_j"],
        energy_evaluation_j=facts.evaluation_energy_j,
        valid_tasks=facts.valid_tasks,
        rng=rng,
    )


def judged_metrics(
    records: Sequence[TaskRecord],
    *,
    energy_generation_j: float | None,
    energy_evaluation_j: float | None,
    valid_tasks: frozenset[str] | None,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Compute those metrics of a run that need verdicts or the energy of judging.

    Parameters
    ----------
    records : sequence of TaskRecord, shape (tasks x samples,)
        One record per sample.
    energy_generation_j, energy_evaluation_j : float or None
        Energy of generating and of judging all of them [J]; None for what was not measured.
    valid_tasks : frozenset of str or None
        Tasks whose canonical solution passes where they were judged; None where that is not known.
    rng : numpy.random.Generator
        As of `run_metrics`, which has the formulas.

    Returns
    -------
    dict of str to float
        Metric by name, as of `run_metrics`.
    """
    metrics: _Figures = {"energy_evaluation_j": energy_evaluation_j}
    passed = _passed(records, lambda record: record.verdict)
    passed_plus = _passed(records, lambda record: record.verdict_plus)
    metrics |= _accuracy(passed, rng) | _accuracy(passed_plus, rng, which="_plus")
    if valid_tasks is not None and passed:
        valid = {task: own for task, own in passed.items() if task in valid_tasks}
        metrics["tasks_valid"] = len(valid)
        metrics |= _accuracy(valid, rng, which="_valid")
    if energy_evaluation_j is not None and energy_generation_j is not None:
        total_j = energy_generation_j + energy_evaluation_j
        metrics["energy_total_kwh"] = total_j / J_PER_KWH
        pass_at_1 = metrics.get("pass_at_1")
        if pass_at_1 is not None:
            metrics["pass_at_1_per_kwh"] = _over(pass_at_1, total_j / J_PER_KWH)
            metrics["energy_per_solved_task_j"] = _over(total_j, sum(map(any, passed.values())))
    return _known(metrics)


def round_metrics(rounds: Sequence[RoundFacts], *, rounds_asked: int) -> dict[str, float]:
    """Compute what each repair round has cost and gained.

    Parameters
    ----------
    rounds : sequence of RoundFacts
        The rounds in which programs were written.
    rounds_asked : int
        How many there may have been: a later one had nothing to repair.

    Returns
    -------
    dict of str to float
        Metric by name; what was not measured is absent.

    Notes
    -----
    After round ``K`` each sample's program is the last that it has. ``pass_at_1_round_K`` is by the
    hidden tests of these programs. ``energy_per_solved_task_round_K_j`` is what a run with ``K``
    rounds takes over the tasks that it solves: generation in the rounds up to ``K``, judging by the
    shown tests in those before ``K``, and judging these programs by the hidden tests.
    ``energy_generation_round_K_j`` and ``energy_evaluation_round_K_j`` (by the shown tests) are of
    the round alone, and so is ``samples_round_K``, the number of programs written in it.
    ``energy_evaluation_replaced_j`` is that of judging programs by the hidden tests that a later
    round has replaced: it only tells the figures above, and is part of no sum.
    """
    metrics: _Figures = {}
    latest: dict[tuple[str, int], TaskRecord] = {}
    replaced_j: list[float | None] = []
    spent_j: float | None = 0.0
    for number in range(1, rounds_asked + 1):
        now = rounds[number - 1] if number <= len(rounds) else None
        metrics[f"samples_round_{number}"] = 0 if now is None else len(now.attempts)
        if now is not None:
            own = {(a.task_id, a.sample): a for a in now.attempts}
            replaced_j += [latest[key].evaluation_energy_j for key in own if key in latest]
            latest |= own
            metrics[f"energy_generation_round_{number}_j"] = now.energy_generation_j
            metrics[f"energy_evaluation_round_{number}_j"] = now.energy_evaluation_j
            spent_j = _plus(spent_j, now.energy_generation_j)
        programs = list(latest.values())
        if passed := _passed(programs, lambda program: program.verdict):
            shares = [pass_at_k(len(each), sum(each), 1) for each in passed.values()]
            metrics[f"pass_at_1_round_{number}"] = float(np.mean(shares))
        known_j = [a.evaluation_energy_j for a in programs if a.evaluation_energy_j is not None]
        total_j = _plus(spent_j, sum(known_j)) if known_j else None
        if total_j is not None and passed:
            solved = sum(map(any, passed.values()))
            metrics[f"energy_per_solved_task_round_{number}_j"] = _over(total_j, solved)
        if now is not None and number < rounds_asked:
            spent_j = _plus(spent_j, now.energy_evaluation_j)
    known_j = [energy_j for energy_j in replaced_j if energy_j is not None]
    metrics["energy_evaluation_replaced_j"] = sum(known_j) if known_j else None
    return _known(metrics)


def _plus(one_j: float | None, other_j: float | None) -> float | None:
    return None if one_j is None or other_j is None else one_j + other_j


def _known(metrics: _Figures) -> dict[str, float]:
    known = {name: float(value) for name, value in metrics.items() if value is not None}
    # A window too short for its counter has an energy of NaN, and so has what it is part of.
    return {name: value for name, value in known.items() if not math.isnan(value)}


def _check(records: Sequence[TaskRecord], windows: _Columns) -> None:
    if not records:
        raise ValueError("no metrics of a run without records")
    of_records = np.fromiter((r.output_tokens for r in records), dtype=np.int64)
    if not np.array_equal(np.sort(of_records), np.sort(windows.tokens)):
        raise ValueError(
            f"{len(records)} records and {len(windows.tokens)} sequences of the windows are not "
            "the same samples: their output tokens differ"
        )


def _counts(records: Sequence[TaskRecord]) -> _Figures:
    return {
        "tasks": len({r.task_id for r in records}),
        "output_tokens": sum(r.output_tokens for r in records),
        "prompt_tokens": sum(r.prompt_tokens for r in records),
    }


def _thinking(records: Sequence[TaskRecord]) -> _Figures:
    """Tokens before answers, and their share of each sample's energy, by their number; nothing for
    a run that does not think."""
    tokens, energy_j = 0, 0.0
    for record in records:
        thought = record.thinking_tokens
        if thought is None:
            return {}
        tokens += thought
        own_j = math.nan if record.energy_j is None else record.energy_j
        energy_j += own_j * (thought / record.output_tokens)
    return {"thinking_tokens": tokens, "energy_thinking_j": energy_j}


def _time(windows: _Columns) -> _Figures:
    latency_s, tokens = windows.sum("latency_s"), sum(windows.tokens)
    positions = windows.sum("positions")
    return {
        "latency_s": latency_s,
        "throughput_tokens_per_s": _over(tokens, latency_s),
        "padding_share": 1 - windows.needed / positions if positions else None,
        **_per_token_times(windows),
    }


def _per_token_times(windows: _Columns) -> _Figures:
    if windows.paced:
        steps = sum(max(0, tokens - 1) for tokens in windows.tokens)
        return {
            "ttft_s": float(np.mean(windows["ttft_s"])),
            "tpot_s": _over(windows.sum("decode_s"), steps),
            **_percentiles(windows),
        }
    first_s, longest = windows["first_token_s"], np.array(windows.longest)
    if np.isnan(first_s).any():
        return {}
    several = longest > 1
    tpots_s = (windows["latency_s"] - first_s)[several] / (longest[several] - 1)
    return {
        "ttft_s": float(np.mean(first_s)),
        "tpot_s": float(np.mean(tpots_s)) if several.any() else None,
    }


def _percentiles(windows: _Columns) -> _Figures:
    ttft_s, decode_s, tokens = windows["ttft_s"], windows["decode_s"], np.array(windows.tokens)
    several = tokens > 1
    times_s = {
        "ttft": ttft_s,
        "tpot": decode_s[several] / (tokens[several] - 1),
        "latency": ttft_s + decode_s,
    }
    return {
        f"{name}_p{percent}_s": float(np.percentile(values_s, percent))
        for name, values_s in times_s.items()
        for percent in PERCENTILES
        if values_s.size
    }


def _steady_state(windows: _Columns) -> _Figures:
    """Energy per token and speed while all slots were busy; nothing where they never were."""
    made = windows["steady_tokens"]
    steady = ~np.isnan(made)
    tokens, energy_j, latency_s = (
        sum(column[steady].tolist()) for column in (made, windows["energy_j"], windows["latency_s"])
    )
    return {
        "throughput_steady_tokens_per_s": _over(tokens, latency_s),
        "energy_per_output_token_steady_j": _over(energy_j, tokens),
    }


def _energy(windows: _Columns, facts: RunFacts) -> _Figures:
    energy_j, prefill_j = windows.sum("energy_j"), windows.sum("prefill_j")
    gross_j, net_j = _gpu_energy(windows, facts.idle_power_w)
    return {
        "energy_generation_j": energy_j,
        "energy_generation_uncertainty_j": math.hypot(*windows["uncertainty_j"]),
        "energy_gpu_j": gross_j,
        "energy_gpu_kwh": gross_j / J_PER_KWH,
        "energy_gpu_net_j": net_j,
        "mean_power_w": _over(energy_j, windows.sum("latency_s")),
        "energy_prefill_j": prefill_j,
        "energy_decode_j": energy_j - prefill_j,
        "energy_crosscheck_rel": windows.sum("integrated_j") / gross_j - 1,
        "energy_gpu_zeus_j": windows.sum("zeus_j"),
        "energy_cpu_j": windows.sum("cpu_j"),
        "energy_dram_j": windows.sum("dram_j"),
        "energy_compile_j": sum(r.energy_j for r in facts.compile) if facts.compile else None,
        "compile_s": sum(r.latency_s for r in facts.compile) if facts.compile else None,
        "energy_load_j": facts.load.energy_j if facts.load else None,
        "energy_quantize_j": facts.quantize.energy_j if facts.quantize else None,
        "idle_power_w": facts.idle_power_w,
        "temperature_start_c": facts.temperature_start_c,
        "cooldown_s": facts.cooldown_s,
        "memory_peak_bytes": facts.memory_peak_bytes,
    }


def _gpu_energy(windows: _Columns, idle_power_w: float | None) -> tuple[float, float]:
    """Energy of the GPUs alone, gross and net; NaN where no GPU is in scope."""
    if windows.scope is EnergyScope.gpu:
        return windows.sum("energy_j"), windows.sum("energy_net_j")
    gross_j = math.nan if windows.scope is EnergyScope.cpu else windows.sum("gpu_j")
    # A reading's net energy would be that of all devices in scope, and a CPU has none.
    idle_w = math.nan if idle_power_w is None else idle_power_w
    return gross_j, gross_j - idle_w * windows.sum("latency_s")


def _over(value: float, by: float) -> float | None:
    return value / by if by > 0 else None


def _passed(
    records: Sequence[TaskRecord], verdict: Callable[[TaskRecord], str | None]
) -> dict[str, list[bool]]:
    """Of each task whether its samples passed; empty where one has no verdict."""
    passed: defaultdict[str, list[bool]] = defaultdict(list)
    for record in records:
        said = verdict(record)
        if said is None:
            return {}
        passed[record.task_id].append(said == Status.passed.value)
    return passed


def _accuracy(
    passed: Mapping[str, Sequence[bool]], rng: np.random.Generator, *, which: str = ""
) -> _Figures:
    """``pass_at_1``, `which` behind it, and so on; nothing without tasks."""
    if not passed:
        return {}
    samples = min(len(p) for p in passed.values())
    metrics: _Figures = {
        f"pass_at_{k}{which}": float(
            np.mean([pass_at_k(len(p), sum(p), k) for p in passed.values()])
        )
        for k in PASS_AT
        if k <= samples
    }
    low, high = pass_at_1_interval(list(passed.values()), rng=rng)
    return metrics | {f"pass_at_1{which}_ci_low": low, f"pass_at_1{which}_ci_high": high}


def _ratios(metrics: _Figures) -> _Figures:
    energy_j, tasks, tokens = (
        metrics[name] or 0.0 for name in ("energy_generation_j", "tasks", "output_tokens")
    )
    return {
        "energy_per_task_j": energy_j / tasks,
        "energy_per_output_token_j": _over(energy_j, tokens),
        "energy_per_token_j": _over(energy_j, tokens + (metrics["prompt_tokens"] or 0.0)),
    }
