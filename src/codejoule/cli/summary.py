"""What the entry script prints when a sweep, or a job by itself, has ended."""

import shlex
import sys

from codejoule.analysis import Options, analyse, load_runs
from codejoule.config import project_root
from codejoule.config.schema import TrackingConfig
from codejoule.domain import visible
from codejoule.experiment.sweep import Outcome, State, Summary
from codejoule.report import render_group
from codejoule.tracking import Store, prepare_store


def print_summary(summary: Summary, *, compare: bool = True) -> None:
    """Print the comparison of the runs, what failed, and where to look next."""
    good = [o for o in summary.outcomes if o.state is not State.failed and o.run_id is not None]
    store = None
    if good and compare:
        store = prepare_store(summary.tracking, project_root=project_root())
        _print_comparison(store, {str(outcome.run_id) for outcome in good})
    reasons: dict[str | None, list[str]] = {}
    for outcome in summary.failed:
        reasons.setdefault(outcome.error, []).append(outcome.name)
    for reason, names in reasons.items():
        print(visible(f"\nFAILED {', '.join(names)}: {reason}"), file=sys.stderr)
    print(visible(f"\n{_counts(summary)}"))
    if store is not None and not summary.failed and not summary.missing:
        print(f"Next: {_next(store, summary.tracking)}.")


def _print_comparison(store: Store, run_ids: set[str]) -> None:
    loaded = load_runs(store.uri, store.experiment, run_ids=run_ids)
    # The rest of the analysis would take seconds, and is `codejoule analyze`.
    for group in analyse(loaded, Options(statistics=("accuracy_pairs",))).groups:
        print(visible(f"\n{render_group(group)}"))
    for sentence in loaded.left_out:
        print(visible(sentence))


def _next(store: Store, tracking: TrackingConfig) -> str:
    """The commands that show these runs."""
    usual = TrackingConfig()
    command = ["codejoule", "analyze"]
    if store.experiment != usual.experiment:
        command += ["--experiment", store.experiment]
    if (tracking.name, tracking.dir) != (usual.name, usual.dir):
        command += ["--tracking-uri", store.uri]
    if command == ["codejoule", "analyze"]:
        return "make ui (every run in MLflow), make analysis (figure and report)"
    return f"{shlex.join(command)} (figure and report)"


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
