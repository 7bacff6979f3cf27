"""Variables of MLflow's, exported for another store."""

from pathlib import Path

import pytest

from codejoule.analysis.store import reading
from codejoule.config import UserError
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store


def record_a_run(project: Path) -> None:
    store = prepare_store(TrackingConfig(dir=f"{project}/mlruns"))
    file = project / "config.yaml"
    file.write_text("a: 1")
    run = store.start_run(name="a", parent_run_id=None, tags={}, params={"batch.size": 1})
    run.log(metrics={"pass_at_1": 0.5}, tags={"b": "c"}, artifacts=[file])
    run.finish("FINISHED")
    with reading(store.uri) as client:
        (found,) = client.search_runs([store.experiment_id])
    assert (found.info.run_id, found.info.status) == (run.run_id, "FINISHED")
    assert found.data.metrics == {"pass_at_1": 0.5} and found.data.tags["b"] == "c"
    assert file.read_text() == next((project / "mlruns").rglob("config.yaml")).read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_ENABLE_WORKSPACES", "true"),
        ("MLFLOW_ENABLE_WORKSPACES", "of course"),
        ("MLFLOW_WORKSPACE", "team"),
        ("MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "postgresql://nowhere/mlflow"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9"),
        ("MLFLOW_REGISTRY_URI", "databricks"),
        ("MLFLOW_EXPERIMENT_NAME", "another"),
        ("MLFLOW_EXPERIMENT_ID", "77"),
        ("MLFLOW_RUN_ID", "0123456789abcdef"),
        ("MLFLOW_ACTIVE_MODEL_ID", "m-1"),
        ("MLFLOW_ENABLE_ASYNC_LOGGING", "true"),
    ],
)
def test_a_variable_for_another_store_changes_nothing_in_ours(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    record_a_run(project)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "many"),
        ("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "bathtub"),
    ],
)
def test_a_variable_that_mlflow_cannot_read_is_told_with_its_value(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"({name}|{value}).*correct or unset the MLFLOW_ var"):
        record_a_run(project)
