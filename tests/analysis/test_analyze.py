"""``codejoule analyze``, whole."""

import argparse
import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from codejoule.analysis import analyse, comparison_table, load_runs
from codejoule.cli import analyze
from codejoule.domain import EnergyScope, EnergySource
from codejoule.report import frontier_figure

TEXTS = "gptq4 b1 gives the same text as none on 18 of 20 tasks"
ACCURACY = (
    "starter gptq4 b1 against starter none b1: pass@1 -0.050 (95 % interval -0.236 to +0.119; of 20 "
    "tasks 1 lost, 0 gained; exact McNemar, p after Holm = 1.000): this suite cannot resolve a "
    "difference; a loss of 0.02 is not excluded."
)


def run(recorder, out, *arguments):
    parser = argparse.ArgumentParser()
    analyze.add_parser(parser.add_subparsers())
    args = parser.parse_args(
        [
            "analyze", "--experiment", recorder.store.experiment, "--out", str(out),
            "--tracking-uri", recorder.store.uri, *arguments,
        ]
    )  # fmt: skip
    return analyze.run(args)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.outside = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [
            v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")
        ]

    def handle_data(self, data):
        self.text += data


def test_sweep_becomes_tables_figures_and_a_page(sweep, tmp_path, capsys):
    assert run(sweep, tmp_path / "out", "--full") == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {
        "comparison.csv", "comparison.md", "frontier.svg", "frontier.png", "quantization.svg",
        "quantization.png", "index.html", "analysis.json", "tables",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "pass@1 [95 % CI]" in printed
    assert "suite starter (complete, 20 tasks), energy: estimate (cpu)" in printed
    assert f"- {TEXTS}\n" in printed
    assert " ".join(printed.split()).count(ACCURACY) == 1
    assert f"Open file://{tmp_path}/out/index.html" in printed
    assert "Runs of experiment sweep in sqlite:///" in printed
    assert max(map(len, printed.splitlines()[:-4])) <= 120
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert len(rows) == 6
    assert float(rows[0]["energy_generation_j"]) == 100.0
    assert rows[0]["energy_source"] == "estimate"
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    assert "| starter | none | 1 |" in markdown
    assert f"- {TEXTS}\n- {ACCURACY}\n" in markdown


def test_the_answer_comes_first_and_25_lines_are_enough(sweep, tmp_path, capsys):
    assert run(sweep, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25
    assert lines[0].startswith("suite starter (complete, 20 tasks)")
    assert lines[1].startswith("Take starter gptq4 b8: ~")
    assert lines[1].count("less than unquantized") + lines[1].count("from unquantized") == 1
    (head,) = [i for i, line in enumerate(lines) if line.startswith("model ")]
    assert lines[head + 2].split()[1:3] == ["gptq4", "8"]
    assert any(line.startswith("- Energy is an estimate") for line in lines[head:])


def test_page_needs_no_other_file_and_says_what_is_estimated(sweep, tmp_path):
    run(sweep, tmp_path)
    page = Page()
    text = (tmp_path / "index.html").read_text()
    page.feed(text)
    assert page.outside == []
    assert "default-src 'none'" in text
    assert 'lang="en"' in text
    assert "Energy is an estimate" in page.text
    assert TEXTS in page.text
    assert page.text.count(ACCURACY) == 1
    assert '"kind":"estimate"' in text
    # The table's own figure, not only the words around it.
    assert "~35.0" in page.text.partition("tokens/s")[2].partition("Energy and accuracy")[0]


@pytest.mark.slow
def test_page_is_logged_unless_that_is_declined(sweep, tmp_path, capsys):
    run(sweep, tmp_path, "--no-log")
    assert "In MLflow" not in capsys.readouterr().out
    run(sweep, tmp_path)
    (parent,) = set(load_runs(sweep.store.uri, sweep.store.experiment).frame["sweep"])
    assert f"In MLflow: report/index.html of run {parent}" in capsys.readouterr().out


@pytest.mark.slow
def test_same_runs_give_the_same_page(sweep, tmp_path):
    run(sweep, tmp_path / "a")
    run(sweep, tmp_path / "b")
    assert (tmp_path / "a" / "index.html").read_text() == (
        tmp_path / "b" / "index.html"
    ).read_text()


def test_kinds_that_do_not_compare_get_a_table_each(recorder, tmp_path, capsys):
    recorder.run()
    recorder.run(
        source=EnergySource.nvml, scope=EnergyScope.gpu, tags={"codejoule.gpu": "NVIDIA <H200>"}
    )
    recorder.run(status="FAILED", repeat=9)
    assert run(recorder, tmp_path) == 0
    assert (tmp_path / "frontier_1.svg").exists()
    assert (tmp_path / "frontier_2.svg").exists()
    text = (tmp_path / "index.html").read_text()
    assert text.count('<article class="group') == 2
    assert "of 2 kinds that are not compared with one another" in text
    assert "NVIDIA &lt;H200&gt;" in text
    assert "Left out: 1 run not finished (1 FAILED)." in capsys.readouterr().out


def test_no_runs_says_what_to_do(recorder, tmp_path, capsys):
    recorder.run(status="FAILED")
    assert run(recorder, tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert "has no finished runs (left out: 1 run not finished (1 FAILED))" in errors
    assert "`codejoule run`" in errors
    assert not (tmp_path / "out").exists()


def test_no_store_says_what_to_do(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    analyze.add_parser(parser.add_subparsers())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert analyze.run(parser.parse_args(["analyze", "--tracking-uri", uri])) == 1
    assert "There are no runs yet" in capsys.readouterr().err


def test_quantized_run_without_its_baseline_is_told(recorder):
    recorder.run(quant__name="awq", batch__size=4)
    (group,) = analyse(load_runs(recorder.store.uri, recorder.store.experiment)).groups
    assert group.notes == ("awq b4: no run with quant=none and otherwise the same settings",)


def test_unjudged_runs_have_no_figure_and_no_verdict_on_resolution(recorder, tmp_path, capsys):
    recorder.run(judged=False)
    recorder.run(judged=False, quant__name="awq")
    assert run(recorder, tmp_path, "--full") == 0
    assert not (tmp_path / "frontier.svg").exists()
    assert (
        "awq b1: pass@1 cannot be compared with none: no task was judged in both, or they differ in "
        "more than one setting"
    ) in " ".join(capsys.readouterr().out.split())


def test_run_without_artifacts_is_told(recorder):
    recorder.run()
    bare = recorder.run(quant__name="awq")
    artifacts = MlflowClient(recorder.store.uri).get_run(bare).info.artifact_uri
    (Path(artifacts.removeprefix("file://")) / "samples.jsonl").unlink()
    (group,) = analyse(load_runs(recorder.store.uri, recorder.store.experiment)).groups
    assert f"run {bare} has no artifact samples.jsonl" in group.notes[1]


def test_figure_without_accuracy_is_refused(recorder, tmp_path):
    recorder.run(judged=False)
    table = comparison_table(load_runs(recorder.store.uri, recorder.store.experiment).frame)
    with pytest.raises(ValueError, match="no configuration has both energy and pass@1"):
        frontier_figure(table, tmp_path / "f.svg")
