"""The view of runs that an experiment carries: in the store, and in MLflow's own page."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zlib

import pytest
from mlflow.tracking import MlflowClient

from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store
from codejoule.tracking.views import SECTIONS, TAG

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


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
    prepare_store(TrackingConfig(), project_root=project)
    assert client.get_experiment(store.experiment_id).tags[TAG] == "mine"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def page_of(store):
    """The address of MLflow's server on the store."""
    port = free_port()
    server = subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri,
            "--port", str(port), "--workers", "1",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/health").close()
            break
        except OSError:
            time.sleep(0.5)
    yield address
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_mlflows_own_page_shows_the_figures_in_columns_and_in_sections(store, page_of):
    from playwright.sync_api import sync_playwright

    parent = store.start_sweep("quant", overrides=[], tags={})
    for name, energy_j in (("dear", 80.0), ("cheap", 41.25)):
        run = store.start_run(name=name, parent_run_id=parent, tags={}, params={})
        run.log(metrics={"energy_per_solved_task_j": energy_j, "pass_at_1": 0.5})
        run.finish("FINISHED")
    query = "workflowType=machine_learning&viewStateShareKey=codejoule"
    link = f"{page_of}/#/experiments/{store.experiment_id}/runs?{query}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        page = browser.new_page(viewport={"width": 1700, "height": 1000})
        page.goto(link)
        page.get_by_text("41.25").first.wait_for(timeout=120_000)
        seen = page.locator("body").inner_text()
        assert seen.index("cheap") < seen.index("dear"), "least energy per solved task first"
        charts = browser.new_page(viewport={"width": 1700, "height": 1000})
        charts.goto(f"{link}&compareRunsMode=CHART")
        charts.get_by_text("Answer: energy and accuracy (3)").wait_for(timeout=120_000)
        browser.close()
