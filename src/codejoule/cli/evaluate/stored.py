"""Judging a run of a tracking store: ``codejoule evaluate --run ID``."""

import argparse
import copy
import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from codejoule.analysis.store import reading
from codejoule.common.mlflow_client import is_server
from codejoule.common.progress import pause
from codejoule.config import UserError, default_store
from codejoule.config.schema import (
    EvaluatorSpread,
    ExperimentConfig,
    TrackingConfig,
    TrackingName,
)
from codejoule.config.typed import from_plain
from codejoule.domain import visible
from codejoule.experiment.judging import judge_run
from codejoule.experiment.run import journal_folder
from codejoule.tracking import Store, prepare_store


def judge_stored(args: argparse.Namespace) -> None:
    """Judge the samples of ``--run``, record the verdicts in it, and print its figures."""
    uri = args.tracking_uri or default_store()
    tracking = tracking_at(uri, _experiment_of(uri, args.run))
    store = prepare_store(tracking)
    experiment = _experiment(args, _config(store, args.run), tracking)
    figures = judge_run(
        store, args.run, experiment, folder_of=partial(journal_folder, tracking), again=args.again
    )
    pause()
    print(visible(f"run {args.run}: {', '.join(figures)}"))
    print(visible(f"Verdicts are recorded in {store.uri}, experiment {store.experiment}."))


def _experiment_of(uri: str, run_id: str) -> str:
    """The MLflow experiment that the run belongs to."""
    from mlflow.exceptions import MlflowException

    with reading(uri) as client:
        try:
            return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise UserError(
                f"--run {run_id}: no such run in {uri}; a run's id is on its page in MLflow, and "
                "--tracking-uri names another store (one that waits for a server is there after "
                "codejoule sync)"
            ) from error


def tracking_at(uri: str, experiment: str) -> TrackingConfig:
    """The configuration that records in that store and experiment."""
    if is_server(uri):
        return TrackingConfig(name=TrackingName.server, uri=uri, experiment=experiment)
    folder = Path(uri.removeprefix("sqlite:///")).parent
    return TrackingConfig(dir=str(folder), experiment=experiment)


def _config(store: Store, run_id: str) -> dict[str, Any]:
    """The run's configuration."""
    with tempfile.TemporaryDirectory() as scratch:
        file = store.fetch_artifact(run_id, "config.yaml", Path(scratch))
        if file is None:
            raise UserError(f"--run {run_id}: has no config.yaml, so how it is judged is not known")
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(plain, dict)
    return plain


def _experiment(
    args: argparse.Namespace, plain: dict[str, Any], tracking: TrackingConfig
) -> ExperimentConfig:
    """The run's configuration with paths of this machine, and what the options say."""
    plain = for_judging(plain)
    own = plain["evaluator"]
    if args.suite is not None:
        if not Path(args.suite).expanduser().exists():
            raise UserError(
                f"--suite {args.suite}: with --run it names the file of the run's tasks"
            )
        plain["suite"]["path"] = args.suite
    given = {
        "timeout_s": args.timeout_s,
        "workers": args.workers,
        "python": args.python,
        "ground_truth": args.ground_truth or None,
    }
    if args.ray is not None:
        given |= {"spread": EvaluatorSpread.ray.name, "address": args.ray}
    own |= {key: value for key, value in given.items() if value is not None}
    return dataclasses.replace(from_plain(plain), tracking=tracking)


def for_judging(plain: dict[str, Any]) -> dict[str, Any]:
    """A copy of a run's configuration without the paths of the machine that generated, which
    judging does not need."""
    plain = copy.deepcopy(plain)
    plain["model"]["path"] = plain["quant"]["calibration"]["path"] = None
    python = plain["evaluator"]["python"]
    if python is not None and not Path(python).exists():
        plain["evaluator"]["python"] = None
    return plain
