"""Runs in MLflow as one table."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codejoule.analysis.comparison import IDENTITY, superseded
from codejoule.analysis.finetuning import KIND
from codejoule.analysis.store import MAKE_RUNS, reading
from codejoule.analysis.variances import Apparatus, apparatus, run_variances
from codejoule.config.errors import UserError
from codejoule.config.relevance import in_use
from codejoule.statistics import RunVariance

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_PAGE = 1000
_IDS = 500
_FEWEST = 200
"""So many runs of each engine and energy source are read, where fewer are asked for, to learn how
much runs vary. MLflow takes milliseconds for each."""
_TIMES = ("started_ms", "ended_ms")
_NO_JOBS = ("sweep", "analysis", KIND)
_SWEEP = "codejoule.sweep"
_SWEEPS = "tags.`codejoule.kind` = 'sweep'"
_STAGE, _GENERATED = "codejoule.stage", "generated"
_FINISHED = "tags.`codejoule.kind` = 'run' and attributes.status = 'FINISHED'"
_TRAINED = f"tags.`codejoule.kind` = '{KIND}' and attributes.status = 'FINISHED'"
_EXAMPLE = "--where \"params.model.name = 'starter' and metrics.pass_at_1 > 0.5\""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRuns:
    """The runs that an analysis works with, and what it left out."""

    frame: "pd.DataFrame"
    """One row per finished run, oldest first: ``run_id``, ``run_name``, ``sweep`` (run id of the
    parent, or None), ``started_ms``, ``ended_ms``, ``artifact_uri``, ``dataset_name``,
    ``dataset_digest``, and ``params.*``, ``metrics.*`` and ``tags.*`` as `mlflow.search_runs`
    names them. A metric that a run does not have is NaN, and so is what rests on pass@1 with random
    weights."""
    left_out: tuple[str, ...]
    """A sentence for each kind of run that was left out."""
    uri: str
    """The store they were read from."""
    experiment: str
    """The experiment they belong to."""
    trained: tuple[Mapping[str, Any], ...] = ()
    """A row, as of `frame`, for each finished run that has trained an adapter, oldest first."""
    variances: Mapping[Apparatus, RunVariance] = field(default_factory=dict)
    """How much repeats of each apparatus differ, in all experiments of the store."""


def load_runs(
    uri: str,
    experiment: str,
    *,
    where: str | None = None,
    run_ids: Collection[str] | None = None,
    sweep: str | None = None,
    newest: int | None = None,
) -> LoadedRuns:
    """Read the finished runs of an experiment.

    Parameters
    ----------
    uri : str
        Tracking store, ``sqlite:///...`` or the address of a server.
    experiment : str
        Name of the experiment.
    where : str, optional
        Filter in MLflow's search syntax, e.g. ``params.model.name = 'starter'``.
    run_ids : collection of str, optional
        Only these runs, e.g. the jobs of one sweep.
    sweep : str, optional
        Only the jobs of this sweep: its name, or the run id of its parent.
    newest : int, optional
        Only so many runs of each search, those that began last, where reading all would take too
        long.

    Raises
    ------
    UserError
        If the store, the experiment or the filter is not there or not valid.
    """
    with reading(uri) as client:
        home = _find(client, uri, experiment)
        # MLflow is asked for those alone: a store may hold thousands of others.
        named = [""] if run_ids is None else _among(sorted(run_ids))
        below = [""] if sweep is None else _below(client, home, sweep)
        searches = [(ids, parent) for ids in named for parent in below]
        found = [
            run
            for own in searches
            for run in _search(client, home, *own, where=where, newest=newest)
        ]
        every = _of_apparatus(client, found, newest or _FEWEST)
        trained = _search(client, home, _TRAINED, newest=newest)
    found.sort(key=lambda run: int(run.info.start_time))
    found = [run for run in found if run.data.tags.get("codejoule.kind") not in _NO_JOBS]
    foreign = [run for run in found if run.data.tags.get("codejoule.kind") != "run"]
    own = [run for run in found if run.data.tags.get("codejoule.kind") == "run"]
    unfinished = Counter(run.info.status for run in own if run.info.status != "FINISHED")
    finished = [run for run in own if run.info.status == "FINISHED"]
    judged = [run for run in finished if run.data.tags.get(_STAGE) != _GENERATED]
    waiting = len(finished) - len(judged)
    # Beside runs that are judged they would be compared by less.
    finished = judged or finished
    extended = {run.data.tags.get("codejoule.extends") for run in finished}
    frame = _frame([run for run in finished if run.info.run_id not in extended])
    taken = len(finished) - len(frame)
    late = superseded(frame)
    left_out = []
    if unfinished:
        how = ", ".join(f"{count} {status}" for status, count in sorted(unfinished.items()))
        left_out.append(f"{_runs(unfinished.total())} not finished ({how})")
    if waiting:
        left_out.append(
            f"{'' if judged else 'the verdicts of '}{_runs(waiting)} whose samples are still to be "
            "judged (the same command with stage=evaluate, or codejoule evaluate --run ID)"
        )
    if taken:
        left_out.append(f"{_runs(taken)} that one of more tasks has taken over")
    if foreign:
        left_out.append(f"{_runs(len(foreign))} not made by codejoule")
    if late.any():
        left_out.append(
            f"{_runs(int(late.sum()))} of a configuration that was run again later with other "
            "weights or library versions"
        )
    frame = frame[~late].reset_index(drop=True)
    return LoadedRuns(
        frame=frame, left_out=tuple(left_out), uri=uri, experiment=experiment,
        trained=tuple(map(_row, trained)), variances=run_variances(_frame(every)),
    )  # fmt: skip


def _of_apparatus(client: "MlflowClient", found: list["Run"], newest: int) -> list["Run"]:
    """The finished runs that were `found`, and, where these are fewer than `newest`, the newest
    others of the whole store that the same apparatus made."""
    runs = [
        run
        for run in found
        if run.data.tags.get("codejoule.kind") == "run" and run.info.status == "FINISHED"
    ]
    known: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        engine, source, _ = apparatus(_row(run))
        known.setdefault((engine, source), []).append(run.info.run_id)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for (engine, source), run_ids in sorted(known.items()):
        if not engine or not source or len(run_ids) >= newest:
            continue
        runs += client.search_runs(
            experiments,
            f"{_FINISHED} and params.`engine.name` = {_quoted(engine)} and "
            f"tags.`codejoule.energy_source` = {_quoted(source)} and "
            f"attributes.run_id NOT IN ({', '.join(map(repr, run_ids))})",
            max_results=newest - len(run_ids),
            order_by=["attributes.start_time DESC"],
        )
    return runs


def _quoted(text: str) -> str:
    return f'"{text}"' if "'" in text else f"'{text}'"


def _among(run_ids: list[str]) -> list[str]:
    """Filters that together find the runs with these ids."""
    parts = [run_ids[start : start + _IDS] for start in range(0, len(run_ids), _IDS)]
    return [f"attributes.run_id IN ({', '.join(map(repr, part))})" for part in parts]


def _below(client: "MlflowClient", experiment: "Experiment", sweep: str) -> list[str]:
    """Filters that together find the jobs below the parents of that name or id."""
    own: list[str] = []
    for key in ("attributes.run_id", f"tags.`{_SWEEP}`", "attributes.run_name"):
        # Several sweeps of the same factors have one name, and a tag each.
        found = _search(client, experiment, _SWEEPS, f"{key} = {_quoted(sweep)}")
        own = [parent.info.run_id for parent in found]
        if own:
            break
    if not own:
        names = sorted(p.data.tags[_SWEEP] for p in _search(client, experiment, _SWEEPS))
        known = f"choose one of {', '.join(names)}" if names else "there are no sweeps yet"
        raise UserError(f"--sweep {sweep!r}: no such sweep; {known}")
    return [f"tags.`mlflow.parentRunId` = '{run_id}'" for run_id in own]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _find(client: "MlflowClient", uri: str, name: str) -> "Experiment":
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
        if not names:
            raise UserError(f"no experiment {name!r} in {uri}, nor any other. {MAKE_RUNS}")
        raise UserError(
            f"no experiment {name!r} in {uri}; choose one of {', '.join(names)} with "
            "--experiment NAME"
        )
    return experiment


def _search(
    client: "MlflowClient",
    experiment: "Experiment",
    *filters: str,
    where: str | None = None,
    newest: int | None = None,
) -> list["Run"]:
    """Every run that all `filters` and the user's own `where` let through, or the `newest`."""
    from mlflow.exceptions import MlflowException

    runs: list[Run] = []
    token: str | None = None
    while True:
        try:
            page = client.search_runs(
                [experiment.experiment_id],
                " and ".join(filter(None, [*filters, where])),
                max_results=newest or _PAGE,
                order_by=[f"attributes.start_time {'DESC' if newest else 'ASC'}"],
                page_token=token,
            )
        except MlflowException as error:
            if where is None or error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            first_line = str(error).splitlines()[0]
            raise UserError(
                f"--where {where!r} is no filter that MLflow understands: {first_line} "
                f"An example: {_EXAMPLE}"
            ) from error
        runs += page
        token = page.token
        if not token or newest:
            return runs


def _frame(runs: list["Run"]) -> "pd.DataFrame":
    import pandas as pd

    rows = [_row(run) for run in runs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    frame = pd.DataFrame(rows, columns=[*columns, *(c for c in IDENTITY if c not in columns)])
    for column in frame.columns:
        if not column.startswith("metrics.") and column not in _TIMES:
            # An absent param or tag is None everywhere, not a float NaN among strings.
            frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
    metrics = [c for c in columns if c.startswith("metrics.")]
    meaningless = [c for c in metrics if "pass_at" in c or "solved" in c]
    frame.loc[frame["tags.codejoule.weights"] == "random", meaningless] = float("nan")
    return frame


def _row(run: "Run") -> dict[str, Any]:
    datasets = run.inputs.dataset_inputs if run.inputs else []
    return {
        "run_id": run.info.run_id,
        "run_name": run.info.run_name,
        "sweep": run.data.tags.get("mlflow.parentRunId"),
        "started_ms": run.info.start_time,
        "ended_ms": run.info.end_time,
        "artifact_uri": run.info.artifact_uri,
        "dataset_name": datasets[0].dataset.name if datasets else None,
        "dataset_digest": datasets[0].dataset.digest if datasets else None,
        # Runs of earlier versions have the params that say nothing, too.
        **{f"params.{key}": value for key, value in in_use(run.data.params).items()},
        **{f"params.{k}": v for k, v in run.data.params.items() if k.startswith(f"{KIND}.")},
        **{f"metrics.{key}": value for key, value in run.data.metrics.items()},
        **{f"tags.{key}": value for key, value in run.data.tags.items()},
    }
