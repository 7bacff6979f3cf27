"""The report as a file: what it says, what it holds, where MLflow has it."""

import base64
import hashlib
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
        "Energy and accuracy", "Tasks", "Statistics", "How it was measured", "Methods and limits",
        "Doubts",
    ):  # fmt: skip
        assert heading in seen.text
    for name in ("summary", "energy_pairs", "accuracy_pairs", "kruskal_wallis", "candidates"):
        assert f'id="t1-{name}"' in html
    tables = [t for t, _ in seen.tags if t == "table"]
    assert len(tables) == [t for t, _ in seen.tags].count("caption") > 15
    heads = [a for t, a in seen.tags if t == "th"]
    assert heads and all(a["scope"] in ("col", "row") for a in heads)
    assert "NVIDIA L40S" in seen.text
    assert "read through NVML" in seen.text


def test_page_opens_with_the_answer_and_ends_with_the_doubts(simulated, tmp_path):
    loaded, path = report(simulated, tmp_path)
    (group,) = analyse(loaded).groups
    text = Text(path.read_text()).text
    answer = group.answer
    assert answer.sentence.startswith(f"Take {answer.configuration}: ")
    assert text.index(answer.sentence) < 400, "title, links and the group come before"
    after = text[text.index(answer.sentence) :]
    parts = ["J per correct program", "Energy and accuracy", "Statistics", "Doubts"]
    places = [after.index(part) for part in (*parts, *answer.doubts)]
    assert places == sorted(places)
    assert "None: no goal was given" not in text


def test_configurations_stand_by_energy_per_correct_program(simulated, tmp_path):
    _, path = report(simulated, tmp_path)
    table = path.read_text().partition('class="sortable tall"')[2].partition("</table>")[0]
    heads = re.findall(r"<th scope=\"col\"[^>]*>([^<]+)<", table)
    assert heads[:3] == ["configuration", "J per correct program", "pass@1 [95 % CI]"]
    energies = [
        float(row.partition("<td")[2].partition(">")[2].partition("<")[0])
        for row in re.split(r"<tr[^>]*>", table)[2:]
    ]
    assert energies == sorted(energies)
    assert len(energies) == 3


def test_nothing_is_said_of_predictions_and_power_where_there_are_none(simulated, tmp_path):
    _, path = report(simulated, tmp_path)
    text = Text(path.read_text()).text
    assert "Predictions\n" not in text
    assert "Power over time" not in text


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
        "1 configurations of mine instruct, measured, NVIDIA L40S are not in the list of tasks"
        in html
    )
    assert "The first 2 of 3 rows; all of them are in <code>tables/summary.csv</code>" in html


def log_answers(store, folder, run_id, tasks, *, program, prompt="Write it."):
    """Artifacts of a run whose answer to task i is ``program(i)``; odd ones fail."""
    rows = {
        f"t{i}": [{
            "task_id": f"t{i}", "solution": program(i), "status": ("pass", "fail")[i % 2],
            "details": {"test_case_1": f"AssertionError: {program(i)}"} if i % 2 else {},
            "reason": ("pass", "fail")[i % 2],
        }]
        for i in range(tasks)
    }  # fmt: skip
    asked = [json.dumps({"task_id": task_id, "prompt": prompt}) for task_id in rows]
    for name, content in (
        ("eval_results.json", json.dumps({"eval": rows})), ("prompts.jsonl", "\n".join(asked)),
    ):  # fmt: skip
        (folder / name).write_text(content)
        MlflowClient(store.uri).log_artifact(run_id, str(folder / name))


def test_full_study_stays_below_eight_megabytes(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="large", dir=f"{with_database(tmp_path)}/mlruns")
    )
    rng = np.random.default_rng(0)
    for i in range(2):
        run_id = write_run(
            store, tmp_path, quant=f"q{i}", energy_j=rng.lognormal(4, 1, 1140),
            passed=rng.random(1140) < 0.5,
        )  # fmt: skip
        log_answers(store, tmp_path, run_id, 1140, program=lambda i, q=i: f"{q} {i}" + "x" * 9000)
    _, path = report(store, tmp_path)
    html = path.read_text()
    (group,) = embedded(html)["groups"]
    tasks = group["tasks"]
    one = len(json.dumps([tasks[name][0] for name in tasks if len(tasks[name]) == 2]))
    assert path.stat().st_size + 26 * one < 8_000_000
    held = len(group["attempts"])
    assert f"{1140 - held:,} of 1,140 tasks are here without prompt, programs" in html
    differ = group["tasks"]["passed"]
    assert all(differ[0][int(t)] != differ[1][int(t)] for t in list(group["attempts"])[:100])


def test_long_text_is_cut_and_the_rest_counted(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="long", dir=f"{with_database(tmp_path)}/mlruns")
    )
    run_id = write_run(
        store, tmp_path, quant="none", energy_j=np.full(2, 5.0), passed=np.ones(2, dtype=bool)
    )
    log_answers(store, tmp_path, run_id, 2, program=lambda i: "y" * 7234)
    _, path = report(store, tmp_path)
    texts = embedded(path.read_text())["texts"]
    cut = "y" * 6000 + "\n[1,234 more characters are in the run's artifacts]"
    assert texts.count(cut) == 1, "held once, however many gave it"
    assert "Write it." in texts


def test_what_steers_a_reader_is_written_as_an_escape(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="steer", dir=f"{with_database(tmp_path)}/mlruns")
    )
    run_id = write_run(
        store, tmp_path, quant="none", energy_j=np.full(1, 5.0), passed=np.ones(1, dtype=bool)
    )
    log_answers(store, tmp_path, run_id, 1, program=lambda i: "a\u202eb\x1b[2J\udc80</script>")
    _, path = report(store, tmp_path)
    assert "a\\u202eb\\x1b[2J\\udc80</script>" in embedded(path.read_text())["texts"]


def test_only_the_pages_own_script_may_run(simulated, tmp_path):
    _, path = report(simulated, tmp_path)
    html = path.read_text()
    allowed = re.search(r"script-src 'sha256-([^']+)'\">", html).group(1)
    (own,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert base64.b64decode(allowed) == hashlib.sha256(own.encode()).digest()


def test_names_are_escaped_everywhere(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="hostile", dir=f"{with_database(tmp_path)}/mlruns")
    )
    name = "</script><img src=x onerror=alert(1)>"
    write_run(
        store, tmp_path, quant=name, energy_j=np.full(12, 5.0), passed=np.ones(12, dtype=bool),
        tags={"codejoule.gpu": "<b>GPU</b>"},
    )  # fmt: skip
    _, path = report(store, tmp_path)
    tags = [t for t, _ in Text(path.read_text()).tags]
    assert "img" not in tags
    (configuration,) = embedded(path.read_text())["groups"][0]["configurations"]
    assert configuration["settings"]["quant"] == name


def test_predictions_stand_beside_what_was_measured(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="predicted", dir=f"{with_database(tmp_path)}/mlruns")
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
    assert re.findall(r'"number">([^<]+)<', latency)[:3] == ["12", "10", "20.00"]
    memory = section[section.index("memory [GB]") :]
    assert re.findall(r'"number">([^<]+)<', memory)[1] == "-"


def test_report_of_one_sweep_is_an_artifact_of_its_parent(simulated, tmp_path):
    loaded, path = report(simulated, tmp_path)
    parent = log_report(loaded, path)
    assert {parent} == set(loaded.frame["sweep"])
    client = MlflowClient(simulated.uri)
    (logged,) = [f.path for f in client.list_artifacts(parent, "report")]
    assert logged == "report/index.html"


def test_report_of_other_runs_gets_one_run_of_its_own(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="alone", dir=f"{with_database(tmp_path)}/mlruns")
    )
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
