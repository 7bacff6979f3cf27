"""The view of MLflow's page of runs that shows what codejoule measures: its columns, and its charts
in sections."""

import base64
import json
import time
import zlib
from typing import Any

VIEW = "codejoule"
"""What names the view in an address: ``viewStateShareKey=codejoule``."""

TAG = f"mlflow.sharedViewState.{VIEW}"
"""Tag of the experiment that holds it. "Save as new view" of MLflow 3.17 writes the same. It is no
documented interface: in another version the view may be missing from the menu, and every metric is
there under its own name all the same."""

COLUMNS = (
    "metrics.`pass_at_1`", "metrics.`energy_per_solved_task_j`", "metrics.`energy_generation_j`",
    "metrics.`energy_per_output_token_mj`", "metrics.`throughput_tokens_per_s`",
    "attributes.`Dataset`",
)  # fmt: skip
SECTIONS = {
    "Answer: energy and accuracy": (
        "energy_per_solved_task_j", "pass_at_1", "energy_per_output_token_mj",
    ),
    "Energy": (
        "energy_generation_j", "energy_evaluation_j", "energy_prefill_j", "energy_decode_j",
        "energy_per_task_j", "energy_load_j", "mean_power_w", "idle_power_w",
    ),
    "Speed": ("throughput_tokens_per_s", "latency_s", "ttft_s", "tpot_s"),
    "Size": ("tasks", "prompt_tokens", "output_tokens", "memory_peak_bytes"),
}  # fmt: skip
"""Metrics of each section of charts. MLflow would make sections of names with a slash in them, but
the names that runs have are what people and the analysis search for."""


def view_tag() -> str:
    """Value of `TAG`."""
    state = json.dumps(_state(), separators=(",", ":")).encode()
    packed = base64.b64encode(zlib.compress(state)).decode("ascii")
    now_ms = time.time_ns() // 1_000_000
    view = {"name": VIEW, "createdAt": now_ms, "updatedAt": now_ms, "state": f"deflate;{packed}"}
    return json.dumps(view, separators=(",", ":"))


def _state() -> dict[str, Any]:
    sections = [
        {"uuid": f"codejoule-{place}", "name": name, "display": True, "isReordered": True}
        for place, name in enumerate(SECTIONS)
    ]
    charts = [
        {
            "uuid": f"codejoule-{metric}",
            "type": "BAR",
            "runsCountToCompare": 20,
            "metricSectionId": section["uuid"],
            "isGenerated": False,
            "displayName": metric,
            "metricKey": metric,
        }
        for section, metrics in zip(sections, SECTIONS.values(), strict=True)
        for metric in metrics
    ]
    scatter = {
        "uuid": "codejoule-front",
        "type": "SCATTER",
        "runsCountToCompare": 50,
        "metricSectionId": "codejoule-0",
        "isGenerated": False,
        "displayName": "pass@1 against energy per solved task",
        "xaxis": {"key": "energy_per_solved_task_j", "type": "METRIC"},
        "yaxis": {"key": "pass_at_1", "type": "METRIC"},
    }
    both = [scatter, *charts]
    return {
        # Sorted by anything but their start, the page lists jobs themselves, and hides none below
        # a parent that is closed: charts are of the runs that are seen.
        "searchFilter": "tags.`codejoule.kind` = 'run'",
        "orderByKey": "metrics.`energy_per_solved_task_j`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [{**chart, "deleted": False} for chart in both],
        "compareRunSections": [
            {**section, "deleted": False, "isGenerated": False} for section in sections
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }
