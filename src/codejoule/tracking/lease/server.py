"""What a lease needs of a tracking server: a few requests, each short.

They go past MLflow's client, whose patience with a server that is gone is a setting of the whole
process, and are made by a thread beside the work. `http_request` and `get_default_host_creds` are
MLflow's own way to its REST interface, with the login from the environment (3.10 to 3.17).
"""

from collections.abc import Mapping, Sequence
from typing import Any

_TIMEOUT_S = 5


class AwayError(Exception):
    """The server gives no answer that helps."""


class LeaseServer:
    """Runs of one experiment on one server."""

    def __init__(self, uri: str, experiment_id: str) -> None:
        from mlflow.utils.credentials import get_default_host_creds

        self._experiment_id = experiment_id
        self._server = get_default_host_creds(uri.rstrip("/"))

    def running(self, fingerprint_tag: str, fingerprint: str) -> dict[str, Mapping[str, str]]:
        """The tags of all runs under way with this fingerprint, by their ids."""
        query = f"tags.`{fingerprint_tag}` = '{fingerprint}' and attributes.status = 'RUNNING'"
        asked = {"experiment_ids": [self._experiment_id], "filter": query, "max_results": 1000}
        found: Sequence[Any] = self._ask("search", asked).get("runs", ())
        return {run["info"]["run_id"]: _tags(run) for run in found}

    def tags(self, run_id: str) -> Mapping[str, str]:
        """The tags of a run."""
        return _tags(self._ask("get", {"run_id": run_id}, method="GET")["run"])

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        named = [{"key": key, "value": value} for key, value in tags.items()]
        self._ask("log-batch", {"run_id": run_id, "tags": named})

    def untag(self, run_id: str, name: str) -> None:
        """Remove a tag that a run has."""
        self._ask("delete-tag", {"run_id": run_id, "key": name})

    def kill(self, run_id: str) -> None:
        """Mark a run as KILLED."""
        self._ask("update", {"run_id": run_id, "status": "KILLED"})

    def _ask(self, what: str, body: Mapping[str, Any], *, method: str = "POST") -> dict[str, Any]:
        from mlflow.exceptions import MlflowException
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        endpoint = f"/api/2.0/mlflow/runs/{what}"
        content = {"params": body} if method == "GET" else {"json": body}
        try:
            answer = http_request(
                self._server, endpoint, method, timeout=_TIMEOUT_S, max_retries=0,
                raise_on_status=False, **content,
            )  # fmt: skip
            found: dict[str, Any] = verify_rest_response(answer, endpoint).json()
        except (MlflowException, OSError, ValueError) as error:
            raise AwayError(f"{what}: {error}") from error
        return found


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", ())}
