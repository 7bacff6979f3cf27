"""From the runs in MLflow to tables and conclusions."""

from codejoule.analysis.analysis import Analysis, GroupAnalysis, Options, analyse, analyse_group
from codejoule.analysis.answer import Answer, answer
from codejoule.analysis.comparison import (
    COMPARABLE,
    Group,
    comparable_groups,
    comparison_table,
    front_energy,
    setting_columns,
)
from codejoule.analysis.evidence import Evidence, gather
from codejoule.analysis.goal import Goal
from codejoule.analysis.runs import LoadedRuns, load_runs
from codejoule.analysis.store import MAKE_RUNS
from codejoule.analysis.table import Table
from codejoule.analysis.tables import make_tables
from codejoule.analysis.tasks import TaskFigures, power_table, read_tasks

__all__ = [
    "COMPARABLE", "MAKE_RUNS", "Analysis", "Answer", "Evidence", "Goal", "Group", "GroupAnalysis",
    "LoadedRuns", "Options", "Table", "TaskFigures", "analyse", "analyse_group", "answer",
    "comparable_groups", "comparison_table", "front_energy", "gather", "load_runs", "make_tables",
    "power_table", "read_tasks", "setting_columns",
]  # fmt: skip
