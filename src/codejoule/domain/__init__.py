"""Frozen facts and pure arithmetic; standard library and numpy only."""

from codejoule.domain.accuracy import (
    bootstrap_interval,
    pass_at_1_interval,
    pass_at_k,
    wilson_interval,
)
from codejoule.domain.architecture import Architecture, linear_layers
from codejoule.domain.break_even import break_even_tasks
from codejoule.domain.completion import Completion, FinishReason, Pace, Prompt
from codejoule.domain.dtype import dtype_bytes, dtype_in_force
from codejoule.domain.energy import (
    FIRST_TOKEN,
    BatchEnergy,
    EnergyReading,
    EnergyScope,
    EnergySource,
    PowerSample,
    attribute_energy,
    later_prefill,
    prefill_part,
)
from codejoule.domain.families import FAMILIES
from codejoule.domain.json_values import from_json, to_json
from codejoule.domain.layers import LinearLayers
from codejoule.domain.placement import place_layers
from codejoule.domain.quantization import METHODS, Quantization, QuantizationMethod
from codejoule.domain.record import TASK_COLUMNS, TaskRecord
from codejoule.domain.source import (
    BOM,
    future_first,
    imported_modules,
    join_sources,
    preamble,
    source_lines,
)
from codejoule.domain.task import DOMAINS, EXPECTED_OUTPUT, Suite, Task
from codejoule.domain.verdict import JudgedSample, Status, Verdict
from codejoule.domain.visible import visible
from codejoule.domain.workload import Workload

__all__ = [
    "BOM",
    "DOMAINS",
    "EXPECTED_OUTPUT",
    "FAMILIES",
    "FIRST_TOKEN",
    "METHODS",
    "TASK_COLUMNS",
    "Architecture",
    "BatchEnergy",
    "Completion",
    "EnergyReading",
    "EnergyScope",
    "EnergySource",
    "FinishReason",
    "JudgedSample",
    "LinearLayers",
    "Pace",
    "PowerSample",
    "Prompt",
    "Quantization",
    "QuantizationMethod",
    "Status",
    "Suite",
    "Task",
    "TaskRecord",
    "Verdict",
    "Workload",
    "attribute_energy",
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
    "place_layers",
    "preamble",
    "prefill_part",
    "source_lines",
    "to_json",
    "visible",
    "wilson_interval",
]
