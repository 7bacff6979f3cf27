"""The report as a file: what it says, what it holds, where MLflow has it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from codejoule.analysis import Goal, Options, analyse, load_runs
from codejoule.config.schema import TrackingConfig
from codejoule.report import log_report, page, write_report
from codejoule.tracking import prepare_store
from tests.analysis.simulated import write_run, write_sweep


class Text(HTMLParser):
    """Tags, and text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._skipping = [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._skipping = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._skipping = False

    def handle_data(self, data):
        self.text += "" if self._skipping else data


def report(store, folder, options=None, **which):
    loaded = load_runs(store.uri, store.experiment, **which)
    return loaded, write_report(analyse(loaded, options), loaded, folder)


def embedded(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL).group(1))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, with_database):
    folder = with_database(tmp_path_factory.mktemp("simulated"))
    return write_sweep(folder, folder)


def test_page_has_every_section_every_table_and_proper_headings(simulated, tmp_path):
    _, path = report(simulated, tmp_path, Options(goal=Goal(min_pass_at_1=0.3)))
    html = path.read_text()
    seen = Text(html)
    for heading in (
        "Summary", "Answer", "Energy and accuracy", "Energy over time", "Tasks and domains",
        "Predictions beside measurements", "Tables", "How each figure was measured",
        "Methods and limits",
    ):  # fmt: skip
        assert heading in seen.text
    assert "Goal: at least 0.3 pass@1 with 95 % confidence, least energy." in seen.text
    for name in ("summary", "energy_pairs", "accuracy_pairs", "kruskal_wallis", "candidates"):
        assert f'id="t1-{name}"' in html
    tables = [t for t, _ in seen.tags if t == "table"]
    assert len(tables) == [t for t, _ in seen.tags].count("caption") > 15
    heads = [a for t, a in seen.tags if t == "th"]
    assert heads and all(a["scope"] in ("col", "row") for a in heads)
    assert "NVIDIA L40S" in seen.text
    assert "read through NVML" in seen.text


def test_explorer_holds_each_task_of_each_configuration(simulated, tmp_path):
    loaded, path = report(simulated, tmp_path)
    (group,) = embedded(path.read_text())["groups"]
    tasks = group["tasks"]
    assert group["kind"] == "measured"
    assert [len(own) for own in tasks["energy_j"]] == [60, 60, 60]
    assert tasks["domains"] == ["General", "Time"]
    energy_j = loaded.frame["metrics.energy_generation_j"]
    for k, c in enumerate(tasks["configurations"]):
        label = group["configurations"][c]["label"]
        quant = label.split()[1]
        own = float(energy_j[loaded.frame["params.quant.name"] == quant].iloc[0])
        assert sum(tasks["energy_j"][k]) == pytest.approx(own, rel=1e-3)


def test_what_does_not_fit_is_left_out_and_said(simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_TASK_ROWS", 130)
    monkeypatch.setattr(page, "MOST_ROWS", 2)
    _, path = report(simulated, tmp_path)
    html = path.read_text()
    assert [len(own) for own in embedded(html)["groups"][0]["tasks"]["task"]] == [60, 60]
    assert (
        "1 configurations of mine instruct, measured, NVIDIA L40S are not in the explorer" in html
    )
    assert "The first 2 of 3 rows; all of them are in <code>tables/summary.csv</code>" in html


def test_full_study_stays_below_five_megabytes(tmp_path, with_database):
    store = prepare_store(TrackingConfig(experiment="large"), project_root=with_database(tmp_path))
    rng = np.random.default_rng(0)
    for i in range(2):
        write_run(
            store, tmp_path, quant=f"q{i}", energy_j=rng.lognormal(4, 1, 1140),
            passed=rng.random(1140) < 0.5,
        )  # fmt: skip
    _, path = report(store, tmp_path)
    tasks = embedded(path.read_text())["groups"][0]["tasks"]
    one = len(json.dumps([tasks[name][0] for name in tasks if len(tasks[name]) == 2]))
    assert path.stat().st_size + 26 * one < 5_000_000


def test_names_are_escaped_everywhere(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="hostile"), project_root=with_database(tmp_path)
    )
    name = "</script><img src=x onerror=alert(1)>"
    write_run(
        store, tmp_path, quant=name, energy_j=np.full(12, 5.0), passed=np.ones(12, dtype=bool),
        tags={"codejoule.gpu": "<b>GPU</b>"},
    )  # fmt: skip
    _, path = report(store, tmp_path)
    tags = [t for t, _ in Text(path.read_text()).tags]
    assert "img" not in tags
    assert embedded(path.read_text())["groups"][0]["configurations"][0]["quant"] == name


def test_predictions_stand_beside_what_was_measured(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="predicted"), project_root=with_database(tmp_path)
    )
    run_id = write_run(
        store, tmp_path, quant="none", energy_j=np.full(10, 5.0), passed=np.ones(10, dtype=bool)
    )
    client = MlflowClient(store.uri)
    client.log_metric(run_id, "predicted_latency_s", 12.0)
    client.log_metric(run_id, "predicted_memory_bytes", 1e9)
    _, path = report(store, tmp_path)
    section = path.read_text().partition('id="p1"')[2].partition("</details>")[0]
    assert "predicted (estimate)" in section
    latency = section[section.index("latency [s]") :]
    assert re.findall(r'"number">([^<]+)<', latency)[:3] == ["12.00", "10.00", "20.00"]
    memory = section[section.index("memory [bytes]") :]
    assert re.findall(r'"number">([^<]+)<', memory)[1] == "-"


def test_report_of_one_sweep_is_an_artifact_of_its_parent(simulated, tmp_path):
    loaded, path = report(simulated, tmp_path)
    parent = log_report(loaded, path)
    assert {parent} == set(loaded.frame["sweep"])
    client = MlflowClient(simulated.uri)
    (logged,) = [f.path for f in client.list_artifacts(parent, "report")]
    assert logged == "report/index.html"


def test_report_of_other_runs_gets_one_run_of_its_own(tmp_path, with_database):
    store = prepare_store(TrackingConfig(experiment="alone"), project_root=with_database(tmp_path))
    write_run(
        store, tmp_path, quant="none", energy_j=np.full(10, 5.0), passed=np.ones(10, dtype=bool)
    )
    loaded, path = report(store, tmp_path)
    first = log_report(loaded, path)
    again, path = report(store, tmp_path)
    assert log_report(again, path) == first
    assert len(again.frame) == 1
    assert again.left_out == ()
    client = MlflowClient(store.uri)
    assert client.get_run(first).data.tags["codejoule.kind"] == "analysis"
    assert Path(client.download_artifacts(first, "report/index.html")).read_text() == (
        path.read_text()
    )
