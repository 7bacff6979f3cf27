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
from codejoule.analysis.frontier import frontier_figure
from codejoule.analysis.output import render_findings, write_tables
from codejoule.analysis.power import power_table
from codejoule.analysis.recommend import Goal, Recommendation, recommend
from codejoule.analysis.report import log_report, write_report
from codejoule.analysis.resolution import (
    Agreement,
    agreement,
    read_samples,
)
from codejoule.analysis.runs import LoadedRuns, load_runs
from codejoule.analysis.sections import (
    Section,
    build_sections,
    render_section,
    write_comparison,
)
from codejoule.analysis.store import MAKE_RUNS
from codejoule.analysis.table import Table
from codejoule.analysis.task_table import task_table
from codejoule.analysis.tasks import TaskFigures, read_tasks
from codejoule.analysis.text import render_table

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
    "frontier_figure",
    "load_runs",
    "log_report",
    "power_table",
    "read_samples",
    "read_tasks",
    "recommend",
    "render_findings",
    "render_section",
    "render_table",
    "task_table",
    "write_comparison",
    "write_report",
    "write_tables",
]
