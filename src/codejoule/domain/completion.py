"""What a model answered, and the row of ``tasks.parquet`` that is made of it."""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Self


class FinishReason(Enum):
    """Why a sequence ended."""

    eos = "eos"
    """The model emitted an end token."""
    stop = "stop"
    """A stop string appeared."""
    complete = "complete"
    """Its program was complete."""
    length = "length"
    """The limit on new tokens was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request to an engine: one sample of one task."""

    task_id: str
    """The task it asks for."""
    sample: int
    """Number of the sample, from 0."""
    text: str
    """The text that is tokenized, chat template applied."""
    add_special_tokens: bool
    """Whether the tokenizer adds its own BOS (False where the template has put one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When one sequence was decoded; for windows whose sequences do not begin together."""

    ttft_s: float
    """Time from its arrival to its first token [s]; where requests do not arrive, from when the
    engine took it up."""
    decode_s: float
    """Time from its first token to its last [s]."""
    begin: float
    """When it was taken up, on a clock that all sequences of its window share: decode steps (a
    prefill being one), or seconds."""
    first: float
    """When it had its first token, on the same clock."""
    end: float
    """When it had its last, on the same clock."""
    begun_s: float | None = None
    """When it was taken up [s after the window's opening]; None in records of earlier versions."""
    arrived_s: float | None = None
    """When it arrived [s after the window's opening]; None where all requests of the window are
    there from its opening."""

    @classmethod
    def in_seconds(
        cls,
        opened_s: float,
        sent_s: float,
        first_s: float,
        last_s: float,
        *,
        arrived_s: float | None = None,
    ) -> Self:
        """The pace of a request in a window that was opened at `opened_s`. All times are by one
        clock [s]; `arrived_s` is counted from the opening."""
        begun_s = sent_s - opened_s
        return cls(
            ttft_s=first_s - opened_s - (begun_s if arrived_s is None else arrived_s),
            decode_s=last_s - first_s,
            begin=begun_s,
            first=first_s - opened_s,
            end=last_s - opened_s,
            begun_s=begun_s,
            arrived_s=arrived_s,
        )

    @property
    def latency_s(self) -> float:
        """End to end: from where its time to first token begins to its last token [s]."""
        return self.ttft_s + self.decode_s

    @property
    def first_s(self) -> float | None:
        """When it had its first token [s after the window's opening]."""
        since_s = self.begun_s if self.arrived_s is None else self.arrived_s
        return None if since_s is None else since_s + self.ttft_s

    @property
    def ended_s(self) -> float | None:
        """When it had its last token [s after the window's opening]."""
        first_s = self.first_s
        return None if first_s is None else first_s + self.decode_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled continuation of one prompt."""

    task_id: str
    """The task it answers."""
    sample: int
    """Number of the sample, from 0."""
    text: str
    """Generated text without special tokens, cut before the stop string or where its program
    was complete."""
    prompt_tokens: int
    """Tokens of the prompt, padding not counted."""
    output_tokens: int
    """Generated tokens, padding not counted; a final end token counts."""
    finish_reason: FinishReason
    """Why it ended."""
    pace: Pace | None = None
    """When it was decoded; None where all sequences of its window begin together."""
    thinking_tokens: int | None = None
    """Those of the output tokens that came before the answer, what ends the thinking included; no
    part of `text`. None where the model was not to think."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A sequence that has not ended yet."""

    task_id: str
    """The task it answers."""
    sample: int
    """Number of the sample, from 0."""
    prompt_tokens: int
    """Tokens of the prompt; 0 where its engine does not tell prefill from decode."""
    pace: Pace
    """When it was decoded, up to now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """Energy, time and verdict of one sample. None is "not measured", never 0."""

    task_id: str
    sample: int
    order: int
    """Position among the run's requests, from 0."""
    batch: int
    """Number of the accounting window in which it ended."""
    batch_size: int
    """Sequences that ended in that window."""
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    energy_j: float | None
    """Energy allocated to this sample, of all windows in which it ran [J]."""
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
    block: int | None = None
    """Number of the block of requests that statistics treat as one observation, for an engine that
    refills; None where the accounting window is that block."""
    thinking_tokens: int | None = None
    """Those of the output tokens that came before the answer; None without ``generation.thinking``.
    """
    round: int | None = None
    """Repair round that wrote the program, from 1; None where the run has one round alone. Of a
    sample as a whole: its last round, and tokens and energies are the sums of all."""


TASK_COLUMNS = tuple(f.name for f in fields(TaskRecord))
"""Columns of ``tasks.parquet``, in order."""
