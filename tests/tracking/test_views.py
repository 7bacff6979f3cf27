"""The view of runs that an experiment carries."""

import base64
import json
import zlib

from mlflow.tracking import MlflowClient

from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store
from codejoule.tracking.views import SECTIONS, TAG


def view_of(store):
    tags = MlflowClient(store.uri).get_experiment(store.experiment_id).tags
    view = json.loads(tags[TAG])
    state = zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;")))
    return view["name"], json.loads(state)


def test_an_experiment_has_a_view_with_the_figures_as_columns(store):
    name, state = view_of(store)
    assert name == "codejoule"
    assert "metrics.`energy_per_solved_task_j`" in state["selectedColumns"]
    assert [section["name"] for section in state["compareRunSections"]] == list(SECTIONS)
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections


def test_a_view_that_somebody_changed_is_left_alone(store, project):
    client = MlflowClient(store.uri)
    client.set_experiment_tag(store.experiment_id, TAG, "mine")
    prepare_store(TrackingConfig(dir=f"{project}/mlruns"))
    assert client.get_experiment(store.experiment_id).tags[TAG] == "mine"
