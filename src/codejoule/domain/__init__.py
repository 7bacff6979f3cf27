"""Frozen facts and pure arithmetic; standard library and numpy only."""

from codejoule.domain.accuracy import (
    bootstrap_interval,
    pass_at_1_interval,
    pass_at_k,
    wilson_interval,
)
from codejoule.domain.architecture import Architecture, linear_layers
from codejoule.domain.completion import (
    TASK_COLUMNS,
    Completion,
    FinishReason,
    Pace,
    Prompt,
    Running,
    TaskRecord,
)
from codejoule.domain.energy import (
    FIRST_TOKEN,
    Cooling,
    EnergyReading,
    EnergyScope,
    EnergySource,
    IdleSource,
    PowerSample,
    Slice,
    attribute_energy,
    attribute_slices,
    break_even_tasks,
    later_prefill,
    prefill_part,
)
from codejoule.domain.families import FAMILIES
from codejoule.domain.json_values import from_json, to_json
from codejoule.domain.quantization import METHODS, Quantization, QuantizationMethod
from codejoule.domain.source import (
    BOM,
    future_first,
    imported_modules,
    join_sources,
    preamble,
    source_lines,
)
from codejoule.domain.suite import DOMAINS, EXPECTED_OUTPUT, Suite, Task
from codejoule.domain.text import visible
from codejoule.domain.verdict import JudgedSample, Status, Verdict
from codejoule.domain.workload import Workload, dtype_bytes, dtype_in_force

__all__ = [
    "BOM",
    "DOMAINS",
    "EXPECTED_OUTPUT",
    "FAMILIES",
    "FIRST_TOKEN",
    "METHODS",
    "TASK_COLUMNS",
    "Architecture",
    "Completion",
    "Cooling",
    "EnergyReading",
    "EnergyScope",
    "EnergySource",
    "FinishReason",
    "IdleSource",
    "JudgedSample",
    "Pace",
    "PowerSample",
    "Prompt",
    "Quantization",
    "QuantizationMethod",
    "Running",
    "Slice",
    "Status",
    "Suite",
    "Task",
    "TaskRecord",
    "Verdict",
    "Workload",
    "attribute_energy",
    "attribute_slices",
    "bootstrap_interval",
    "break_even_tasks",
    "dtype_bytes",
    "dtype_in_force",
    "from_json",
    "future_first",
    "imported_modules",
    "join_sources",
    "later_prefill",
    "linear_layers",
    "pass_at_1_interval",
    "pass_at_k",
    "preamble",
    "prefill_part",
    "source_lines",
    "to_json",
    "visible",
    "wilson_interval",
]
