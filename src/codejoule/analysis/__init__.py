"""From the runs in MLflow to tables, figures and conclusions."""

from codejoule.analysis.analysis import (
    Analysis,
    GroupAnalysis,
    Options,
    analyse,
    analyse_group,
)
from codejoule.analysis.comparison import comparison_table
from codejoule.analysis.configuration import COMPARABLE, Group, comparable_groups
from codejoule.analysis.power import power_table
from codejoule.analysis.recommend import Goal, Recommendation, recommend
from codejoule.analysis.resolution import (
    Agreement,
    agreement,
    read_samples,
)
from codejoule.analysis.runs import LoadedRuns, load_runs
from codejoule.analysis.sections import (
    Section,
    build_sections,
)
from codejoule.analysis.store import MAKE_RUNS
from codejoule.analysis.table import Table
from codejoule.analysis.task_table import task_table
from codejoule.analysis.tasks import TaskFigures, read_tasks

__all__ = [
    "COMPARABLE",
    "MAKE_RUNS",
    "Agreement",
    "Analysis",
    "Goal",
    "Group",
    "GroupAnalysis",
    "LoadedRuns",
    "Options",
    "Recommendation",
    "Section",
    "Table",
    "TaskFigures",
    "agreement",
    "analyse",
    "analyse_group",
    "build_sections",
    "comparable_groups",
    "comparison_table",
    "load_runs",
    "power_table",
    "read_samples",
    "read_tasks",
    "recommend",
    "task_table",
]
