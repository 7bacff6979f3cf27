"""The report as an artifact of the runs that it is about."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis import LoadedRuns
from codejoule.analysis.store import reading, relocated
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_OF = "codejoule.analysis_of"


def log_report(loaded: LoadedRuns, page: Path) -> str:
    """Log a page about `loaded` runs in MLflow, and say which run has it.

    That run has the artifact ``report/index.html`` then: the sweep's parent where all runs are of
    one sweep, otherwise a run of kind ``analysis``, the same one for the same runs. In a store that
    was moved or copied the artifact lies beside the database. Raises `UserError` if the store
    cannot be written.
    """
    parents = set(loaded.frame["sweep"])
    moved_to = relocated(loaded.uri, loaded.frame["artifact_uri"])
    with reading(loaded.uri) as client:
        if len(parents) == 1 and None not in parents:
            run_id = str(next(iter(parents)))
        else:
            run_id = _analysis_run(client, loaded)
        try:
            if moved_to is None:
                client.log_artifact(run_id, str(page), "report")
            else:
                # MLflow would write to the place that the store was moved or copied from.
                folder = moved_to / run_id / "artifacts" / "report"
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(page, folder)
        except OSError as error:
            raise UserError(
                f"the page cannot be logged in {loaded.uri}: {error}; --no-log leaves it out"
            ) from error
    return run_id


def _analysis_run(client: "MlflowClient", loaded: LoadedRuns) -> str:
    """The run of kind ``analysis`` for these runs; made where there is none."""
    home = client.get_experiment_by_name(loaded.experiment)
    assert home is not None, "runs were read from it"
    of = hashlib.sha256(" ".join(sorted(loaded.frame["run_id"])).encode()).hexdigest()
    known = client.search_runs([home.experiment_id], f"tags.`{_OF}` = '{of}'", max_results=1)
    if known:
        return str(known[0].info.run_id)
    note = f"Report on {len(loaded.frame)} runs: see the artifact report/index.html."
    tags = {"codejoule.kind": "analysis", _OF: of, "mlflow.note.content": note}
    run = client.create_run(home.experiment_id, run_name="analysis", tags=tags)
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
