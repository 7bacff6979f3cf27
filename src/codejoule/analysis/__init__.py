"""From the runs in MLflow to tables and conclusions."""

from codejoule.analysis.analysis import Analysis, GroupAnalysis, Options, analyse, analyse_group
from codejoule.analysis.answer import Answer, answer
from codejoule.analysis.attempts import Attempt, RunAttempts, read_attempts
from codejoule.analysis.comparison import (
    COMPARABLE,
    Group,
    comparable_groups,
    comparison_table,
    differing,
    front_energy,
    setting_columns,
)
from codejoule.analysis.evidence import Evidence, gather
from codejoule.analysis.goal import Goal
from codejoule.analysis.power import PowerProfile, power_profiles
from codejoule.analysis.quantization import RatioCurve, ratio_curves
from codejoule.analysis.runs import LoadedRuns, load_runs
from codejoule.analysis.store import MAKE_RUNS
from codejoule.analysis.table import Table
from codejoule.analysis.tables import make_tables
from codejoule.analysis.tasks import TaskFigures, read_tasks
from codejoule.analysis.variances import apparatus, largest_variance

__all__ = [
    "COMPARABLE", "MAKE_RUNS", "Analysis", "Answer", "Attempt", "Evidence", "Goal", "Group",
    "GroupAnalysis", "LoadedRuns", "Options", "PowerProfile", "RatioCurve", "RunAttempts", "Table",
    "TaskFigures", "analyse", "analyse_group", "answer", "apparatus", "comparable_groups",
    "comparison_table", "differing", "front_energy", "gather", "largest_variance", "load_runs",
    "make_tables", "power_profiles", "ratio_curves", "read_attempts", "read_tasks",
    "setting_columns",
]  # fmt: skip
