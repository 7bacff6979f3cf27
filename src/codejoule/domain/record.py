"""One row of ``tasks.parquet``: everything known of one sample of one task."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """Energy, time and verdict of one sample. None is "not measured", never 0."""

    task_id: str
    sample: int
    order: int
    """Position among the run's requests, from 0."""
    batch: int
    """Number of the accounting window."""
    batch_size: int
    """Sequences in that window."""
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    energy_j: float | None
    """Share of the window's energy allocated to this sample [J]."""
    energy_net_j: float | None
    """The same, idle power subtracted [J]."""
    batch_energy_j: float | None
    """Measured energy of the whole window [J]."""
    latency_s: float
    """Wall time of the window [s]."""
    ttft_s: float | None
    """Time to first token of the window [s]."""
    verdict: str | None
    """``pass``, ``fail`` or ``timeout``, by the benchmark's own tests; None where the evaluator
    was off, or could not judge it."""
    verdict_reason: str | None
    evaluation_s: float | None
    evaluation_cpu_s: float | None
    evaluation_energy_j: float | None
    domains: tuple[str, ...]
    verdict_plus: str | None = None
    """The same by these and the further tests of EvalPlus; None where the task has none."""


TASK_COLUMNS = tuple(f.name for f in fields(TaskRecord))
"""Columns of ``tasks.parquet``, in order."""
