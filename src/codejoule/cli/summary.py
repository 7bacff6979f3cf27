"""What the entry script prints when a sweep, or a job by itself, has ended."""

import shlex
import sys
from collections import Counter
from dataclasses import replace

from codejoule.analysis import Analysis, Options, analyse, load_runs
from codejoule.common.display import Display
from codejoule.common.progress import doing, pause, watcher
from codejoule.config import program
from codejoule.config.schema import ProgressMode, TrackingConfig, TrackingName
from codejoule.domain import visible
from codejoule.experiment.sweep import State, Summary
from codejoule.report import LINES, best_figures, render_answers, sweep_note
from codejoule.tracking import VIEW, Store, prepare_store

_AFTER = 6
"""Lines that follow the answers of a sweep in which nothing failed, and empty ones."""
_UI = "http://127.0.0.1:5000"
"""Where `codejoule ui` serves, unless it is told otherwise or the port is in use."""


def print_summary(summary: Summary, *, compare: bool = True) -> None:
    """Print the comparison of the runs, what failed, and where to look next. The comparison is also
    the note of the sweep's parent run."""
    shown = watcher()
    if isinstance(shown, Display):  # no job goes on, whose title and time left it would show
        shown.heading("")
        shown.left = str
    good = [o for o in summary.outcomes if o.state is not State.failed and o.run_id is not None]
    store, comparison, elsewhere = None, "", ""
    if good and compare:
        doing("comparing the runs")
        store = prepare_store(summary.tracking)
        found = store.located(str(outcome.run_id) for outcome in good)
        uri, ids = max(found.items(), key=lambda place: len(place[1]), default=(store.uri, set()))
        if len(ids) < len(good):
            elsewhere = (
                f"{len(good) - len(ids)} of {len(good)} runs are in another store and are not "
                "compared here, since the tracking server was away for a while"
            )
        if ids:
            analysis, comparison = _compare(
                uri, store.experiment, ids, longest=summary.answer is not None
            )
            if summary.run_id is not None and not summary.only_skipped:
                failures = [f"{o.name} failed: {o.error}" for o in summary.failed]
                note = sweep_note(analysis, [*failures, *filter(None, [elsewhere])])
                figures = best_figures(analysis) if not elsewhere else {"metrics": {}, "tags": {}}
                store.describe_sweep(summary.run_id, note=note, **figures)
    pause()
    for text in filter(None, (summary.answer, comparison, elsewhere and f"{elsewhere}.")):
        print(visible(f"\n{text}"))
    reasons: dict[str | None, list[str]] = {}
    for outcome in summary.failed:
        reasons.setdefault(outcome.error, []).append(outcome.name)
    for reason, names in reasons.items():
        print(visible(f"\nFAILED {', '.join(names)}: {reason}"), file=sys.stderr)
    print(visible(f"\n{_counts(summary)}"))
    if store is None or (isinstance(shown, Display) and shown.mode is ProgressMode.none):
        return
    if store.outbox is not None and (told := store.outbox.told()) is not None:
        print(visible(f"{told}."))
    if store.away:
        return
    if not summary.failed and not summary.missing:
        print(f"Next: {_next(store, summary.tracking)}.")
    print(f"Runs in MLflow: {_link(store, summary.tracking)}")


def _compare(
    uri: str, experiment: str, run_ids: set[str], *, longest: bool
) -> tuple[Analysis, str]:
    loaded = load_runs(uri, experiment, run_ids=run_ids)
    if longest:  # a sweep with a goal: the looks at fewer tasks have told what they could
        tasks = loaded.frame["metrics.tasks"]
        loaded = replace(loaded, frame=loaded.frame[tasks == tasks.max()].reset_index(drop=True))
    # The rest of the analysis would take seconds, and is `codejoule analyze`.
    analysis = analyse(loaded, Options(statistics=()))
    # The counts and what comes next follow.
    lines = LINES - len(loaded.left_out) - _AFTER
    answers = [render_answers(analysis.groups, lines=lines)] if analysis.groups else []
    return analysis, "\n".join([*answers, *loaded.left_out])


def _link(store: Store, tracking: TrackingConfig) -> str:
    """Where a browser shows these runs with their figures: MLflow 3 opens an experiment on its
    traces unless it is told that it is no experiment of that kind."""
    query = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    page = f"#/experiments/{store.experiment_id}/runs?{query}"
    if tracking.name is TrackingName.server:
        return f"{store.uri.rstrip('/')}/{page}"
    serve = [program(), "ui"]
    if tracking.dir != TrackingConfig().dir:
        serve += ["--tracking-uri", store.uri]
    return f"{_UI}/{page} (served by: {shlex.join(serve)})"


def _next(store: Store, tracking: TrackingConfig) -> str:
    """The commands that show these runs."""
    usual = TrackingConfig()
    command = [program(), "analyze"]
    if store.experiment != usual.experiment:
        command += ["--experiment", store.experiment]
    if (tracking.name, tracking.dir) != (usual.name, usual.dir):
        command += ["--tracking-uri", store.uri]
    return f"{shlex.join(command)} (figure and report)"


def _counts(summary: Summary) -> str:
    count = Counter(outcome.state for outcome in summary.outcomes)
    parts = [f"{count[State.finished]} finished"]
    if count[State.skipped]:
        parts.append(f"{count[State.skipped]} had finished before")
    if failed := [outcome.name for outcome in summary.failed]:
        parts.append(f"{len(failed)} failed: {', '.join(failed)}")
    if summary.missing:
        parts.append(f"{summary.missing} did not finish")
    jobs = len(summary.outcomes) + summary.missing
    return f"{jobs} {'job' if jobs == 1 else 'jobs'}: {', '.join(parts)}."
