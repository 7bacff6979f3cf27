"""What the entry script prints when a sweep, or a job by itself, has ended."""

import sys

from codejoule.analysis import build_sections, load_runs, render_section
from codejoule.config import project_root
from codejoule.config.schema import TrackingName
from codejoule.domain import visible
from codejoule.experiment.outcome import Outcome, State
from codejoule.experiment.sweep import Summary
from codejoule.tracking import prepare_store


def print_summary(summary: Summary, *, compare: bool = True) -> None:
    """Print the comparison of the runs, what failed, and where to look next."""
    good = [o for o in summary.outcomes if o.state is not State.failed and o.run_id is not None]
    if good and compare:
        _print_comparison(summary, {str(outcome.run_id) for outcome in good})
    for outcome in summary.failed:
        print(visible(f"\nFAILED {outcome.name}: {outcome.error}"), file=sys.stderr)
    print(visible(f"\n{_counts(summary)}"))
    if summary.tracking.name is TrackingName.local and summary.tracking.dir is None:
        print("Next: make ui (every run in MLflow), make analysis (figure and report).")


def _print_comparison(summary: Summary, run_ids: set[str]) -> None:
    store = prepare_store(summary.tracking, project_root=project_root())
    loaded = load_runs(store.uri, store.experiment, run_ids=run_ids)
    for section in build_sections(loaded):
        print(visible(f"\n{render_section(section)}"))
    for sentence in loaded.left_out:
        print(visible(sentence))


def _counts(summary: Summary) -> str:
    def names(outcomes: list[Outcome]) -> str:
        return f": {', '.join(outcome.name for outcome in outcomes)}" if outcomes else ""

    states = {state: [o for o in summary.outcomes if o.state is state] for state in State}
    parts = [f"{len(states[State.finished])} finished"]
    if states[State.skipped]:
        parts.append(f"{len(states[State.skipped])} had finished before")
    if states[State.failed]:
        parts.append(f"{len(states[State.failed])} failed{names(states[State.failed])}")
    if summary.missing:
        parts.append(f"{summary.missing} did not finish")
    jobs = len(summary.outcomes) + summary.missing
    return f"{jobs} {'job' if jobs == 1 else 'jobs'}: {', '.join(parts)}."
