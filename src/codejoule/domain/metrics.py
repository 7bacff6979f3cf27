"""The figures of one run, from its records and energy readings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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

    windows: tuple[WindowFacts, ...]
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
        if not self.windows:
            raise ValueError("a run needs at least one window of generation")
        kinds = {(w.reading.source, w.reading.scope) for w in self.windows}
        if len(kinds) > 1:
            named = sorted(f"{source.value}/{scope.value}" for source, scope in kinds)
            raise ValueError(f"windows of one run differ in source or scope: {', '.join(named)}")
        if (self.evaluation_energy_j is None) != (self.evaluation_source is None):
            raise ValueError(
                "evaluation_energy_j and evaluation_source come together or not at all"
            )

    @property
    def source(self) -> EnergySource:
        """How the energy of generation was obtained."""
        return self.windows[0].reading.source

    @property
    def scope(self) -> EnergyScope:
        """Which devices the energy of generation covers."""
        return self.windows[0].reading.scope


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
        If there are no records, or records and windows do not describe the same samples.

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
    _check(records if attempts is None else attempts, facts)
    metrics = (
        _counts(records) | _thinking(records) | _time(facts) | _energy(facts) | _steady_state(facts)
    )
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
    metrics |= _accuracy(records, rng)
    if all(r.verdict_plus is not None for r in records):
        by_all_tests = [replace(r, verdict=r.verdict_plus) for r in records]
        metrics |= _accuracy(by_all_tests, rng, which="_plus")
    if valid_tasks is not None and all(r.verdict is not None for r in records):
        valid = [r for r in records if r.task_id in valid_tasks]
        metrics["tasks_valid"] = len({r.task_id for r in valid})
        metrics |= _accuracy(valid, rng, which="_valid")
    if energy_evaluation_j is not None and energy_generation_j is not None:
        total_j = energy_generation_j + energy_evaluation_j
        metrics["energy_total_kwh"] = total_j / J_PER_KWH
        pass_at_1 = metrics.get("pass_at_1")
        if pass_at_1 is not None:
            solved = {r.task_id for r in records if r.verdict == Status.passed.value}
            metrics["pass_at_1_per_kwh"] = _over(pass_at_1, total_j / J_PER_KWH)
            metrics["energy_per_solved_task_j"] = _over(total_j, len(solved))
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
    spent_j: float | None = 0.0
    for number in range(1, rounds_asked + 1):
        now = rounds[number - 1] if number <= len(rounds) else None
        metrics[f"samples_round_{number}"] = 0 if now is None else len(now.attempts)
        if now is not None:
            latest |= {(a.task_id, a.sample): a for a in now.attempts}
            metrics[f"energy_generation_round_{number}_j"] = now.energy_generation_j
            metrics[f"energy_evaluation_round_{number}_j"] = now.energy_evaluation_j
            spent_j = _plus(spent_j, now.energy_generation_j)
        programs = list(latest.values())
        metrics |= _round_accuracy(programs, number)
        solved = {a.task_id for a in programs if a.verdict == Status.passed.value}
        known_j = [a.evaluation_energy_j for a in programs if a.evaluation_energy_j is not None]
        total_j = _plus(spent_j, sum(known_j)) if known_j else None
        if total_j is not None and f"pass_at_1_round_{number}" in metrics:
            metrics[f"energy_per_solved_task_round_{number}_j"] = _over(total_j, len(solved))
        if now is not None and number < rounds_asked:
            spent_j = _plus(spent_j, now.energy_evaluation_j)
    kept = set(map(id, latest.values()))
    replaced = [a for each in rounds for a in each.attempts if id(a) not in kept]
    known_j = [a.evaluation_energy_j for a in replaced if a.evaluation_energy_j is not None]
    metrics["energy_evaluation_replaced_j"] = sum(known_j) if known_j else None
    return _known(metrics)


def _plus(one_j: float | None, other_j: float | None) -> float | None:
    return None if one_j is None or other_j is None else one_j + other_j


def _round_accuracy(programs: Sequence[TaskRecord], number: int) -> _Figures:
    if any(program.verdict is None for program in programs):
        return {}
    passed: dict[str, list[bool]] = {}
    for program in programs:
        passed.setdefault(program.task_id, []).append(program.verdict == Status.passed.value)
    shares = [pass_at_k(len(each), sum(each), 1) for each in passed.values()]
    return {f"pass_at_1_round_{number}": float(np.mean(shares))}


def _known(metrics: _Figures) -> dict[str, float]:
    known = {name: float(value) for name, value in metrics.items() if value is not None}
    # A window too short for its counter has an energy of NaN, and so has what it is part of.
    return {name: value for name, value in known.items() if not math.isnan(value)}


def _check(records: Sequence[TaskRecord], facts: RunFacts) -> None:
    if not records:
        raise ValueError("no metrics of a run without records")
    from_windows = sorted(tokens for w in facts.windows for tokens in w.output_tokens)
    if from_windows != sorted(r.output_tokens for r in records):
        raise ValueError(
            f"{len(records)} records and {len(from_windows)} sequences of the windows are not "
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
    thoughts = [r.thinking_tokens for r in records if r.thinking_tokens is not None]
    if len(thoughts) < len(records):
        return {}
    shares_j = [
        None if r.energy_j is None else r.energy_j * (thought / r.output_tokens)
        for r, thought in zip(records, thoughts, strict=True)
    ]
    return {"thinking_tokens": sum(thoughts), "energy_thinking_j": _sum_or_none(shares_j)}


def _time(facts: RunFacts) -> _Figures:
    latency_s = sum(w.reading.latency_s for w in facts.windows)
    tokens = sum(sum(w.output_tokens) for w in facts.windows)
    positions = _sum_or_none([w.positions for w in facts.windows])
    needed = sum(
        w.prompt_tokens + sum(max(0, tokens - 1) for tokens in w.output_tokens)
        for w in facts.windows
    )
    return {
        "latency_s": latency_s,
        "throughput_tokens_per_s": _over(tokens, latency_s),
        "padding_share": 1 - needed / positions if positions else None,
        **_per_token_times(facts),
    }


def _per_token_times(facts: RunFacts) -> _Figures:
    if all(w.paces for w in facts.windows):
        paces = [pace for w in facts.windows for pace in w.paces]
        steps = sum(max(0, tokens - 1) for w in facts.windows for tokens in w.output_tokens)
        return {
            "ttft_s": float(np.mean([pace.ttft_s for pace in paces])),
            "tpot_s": _over(sum(pace.decode_s for pace in paces), steps),
            **_percentiles(facts),
        }
    ttfts_s = [w.reading.marks_s.get(FIRST_TOKEN) for w in facts.windows]
    known_s = [t for t in ttfts_s if t is not None]
    if len(known_s) < len(ttfts_s):
        return {}
    tpots_s = [
        (w.reading.latency_s - ttft_s) / (max(w.output_tokens) - 1)
        for w, ttft_s in zip(facts.windows, known_s, strict=True)
        if max(w.output_tokens) > 1
    ]
    return {
        "ttft_s": float(np.mean(known_s)),
        "tpot_s": float(np.mean(tpots_s)) if tpots_s else None,
    }


def _percentiles(facts: RunFacts) -> _Figures:
    paced = [
        (pace, tokens)
        for w in facts.windows
        for pace, tokens in zip(w.paces, w.output_tokens, strict=True)
    ]
    times_s = {
        "ttft": [pace.ttft_s for pace, _ in paced],
        "tpot": [pace.decode_s / (tokens - 1) for pace, tokens in paced if tokens > 1],
        "latency": [pace.latency_s for pace, _ in paced],
    }
    return {
        f"{name}_p{percent}_s": float(np.percentile(values_s, percent))
        for name, values_s in times_s.items()
        for percent in PERCENTILES
        if values_s
    }


def _steady_state(facts: RunFacts) -> _Figures:
    """Energy per token and speed while all slots were busy; nothing where they never were."""
    steady = [(w.steady_tokens, w.reading) for w in facts.windows if w.steady_tokens is not None]
    tokens = sum(made for made, _ in steady)
    energy_j = sum(reading.energy_j for _, reading in steady)
    return {
        "throughput_steady_tokens_per_s": _over(tokens, sum(r.latency_s for _, r in steady)),
        "energy_per_output_token_steady_j": _over(energy_j, tokens),
    }


def _energy(facts: RunFacts) -> _Figures:
    readings = [w.reading for w in facts.windows]
    energy_j = sum(r.energy_j for r in readings)
    prefill_j = _sum_or_none(
        [
            prefill_part(w.reading.energy_at_marks_j, w.reading.marks_s, opens=w.opens)
            for w in facts.windows
        ]
    )
    integrated_j = _sum_or_none([r.integrated_j for r in readings])
    gross_j, net_j = _gpu_energy(readings, facts.idle_power_w)
    stated_j = [r.uncertainty_j for r in readings if r.uncertainty_j is not None]
    uncertainty_j = math.hypot(*stated_j) if len(stated_j) == len(readings) else None
    crosscheck = None
    if integrated_j is not None and gross_j is not None:
        crosscheck = integrated_j / gross_j - 1
    return {
        "energy_generation_j": energy_j,
        "energy_generation_uncertainty_j": uncertainty_j,
        "energy_gpu_j": gross_j,
        "energy_gpu_kwh": None if gross_j is None else gross_j / J_PER_KWH,
        "energy_gpu_net_j": net_j,
        "mean_power_w": _over(energy_j, sum(r.latency_s for r in readings)),
        "energy_prefill_j": prefill_j,
        "energy_decode_j": None if prefill_j is None else energy_j - prefill_j,
        "energy_crosscheck_rel": crosscheck,
        "energy_gpu_zeus_j": _sum_or_none([r.zeus_j for r in readings]),
        "energy_cpu_j": _sum_or_none([r.of_j("cpu") for r in readings]),
        "energy_dram_j": _sum_or_none([r.of_j("dram") for r in readings]),
        "energy_compile_j": sum(r.energy_j for r in facts.compile) if facts.compile else None,
        "compile_s": sum(r.latency_s for r in facts.compile) if facts.compile else None,
        "energy_load_j": facts.load.energy_j if facts.load else None,
        "energy_quantize_j": facts.quantize.energy_j if facts.quantize else None,
        "idle_power_w": facts.idle_power_w,
        "temperature_start_c": facts.temperature_start_c,
        "cooldown_s": facts.cooldown_s,
        "memory_peak_bytes": facts.memory_peak_bytes,
    }


def _gpu_energy(
    readings: Sequence[EnergyReading], idle_power_w: float | None
) -> tuple[float | None, float | None]:
    """Energy of the GPUs alone, gross and net; None where no GPU is in scope."""
    scope = readings[0].scope
    if scope is EnergyScope.gpu:
        return sum(r.energy_j for r in readings), _sum_or_none([r.energy_net_j for r in readings])
    gross_j = None
    if scope is not EnergyScope.cpu:
        gross_j = _sum_or_none([r.of_j("gpu") for r in readings])
    if gross_j is None or idle_power_w is None:
        return gross_j, None
    # A reading's net energy would be that of all devices in scope, and a CPU has none.
    return gross_j, gross_j - idle_power_w * sum(r.latency_s for r in readings)


def _sum_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _over(value: float, by: float) -> float | None:
    return value / by if by > 0 else None


def _accuracy(
    records: Sequence[TaskRecord], rng: np.random.Generator, *, which: str = ""
) -> _Figures:
    """``pass_at_1``, `which` behind it, and so on; nothing where a sample has no verdict."""
    if not records or any(r.verdict is None for r in records):
        return {}
    passed: dict[str, list[bool]] = {}
    for record in records:
        passed.setdefault(record.task_id, []).append(record.verdict == Status.passed.value)
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
