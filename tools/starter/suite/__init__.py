"""The bundled suites' grammar: templated tasks for evaluation, templated texts for training.

A task is a chain of small operations. Some pairs of operations are held out: training never
sees them together, and every evaluation task has at least one of them.
"""

from tools.starter.suite.evaluation import (
    STARTER,
    STARTER_LARGE,
    EvaluationTask,
    Part,
    draw_tasks,
    dump_rows,
)
from tools.starter.suite.near_misses import near_misses
from tools.starter.suite.program import Program
from tools.starter.suite.sampling import draw_corpus, held_out_pairs, training_texts

__all__ = [
    "STARTER",
    "STARTER_LARGE",
    "EvaluationTask",
    "Part",
    "Program",
    "draw_corpus",
    "draw_tasks",
    "dump_rows",
    "held_out_pairs",
    "near_misses",
    "training_texts",
]
