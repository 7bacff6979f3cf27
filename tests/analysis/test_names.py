"""Every sentence says what it is about, and one pair has one p-value."""

import argparse
import json
import re

import pytest

from codejoule.analysis import Options, analyse, load_runs
from codejoule.cli import analyze
from codejoule.domain import EnergyScope, EnergySource

FACTORS = {
    "engine": ({"engine__name": ("generate", "graph")}, ("generate", "graph")),
    "generation": ({"generation__name": ("greedy", "sample")}, ("greedy", "sample")),
    "stop": (
        {"generation__stop": ("benchmark", "complete")}, ("stop=benchmark", "stop=complete"),
    ),
    "dtype": (
        {"model__dtype": ("bfloat16", "float16")}, ("dtype=bfloat16", "dtype=float16"),
    ),
    "kernel": (
        {"engine__kernel": ("marlin", "torch")}, ("kernel=marlin", "kernel=torch"),
    ),
    "two of one name": (
        {"engine__kernel": ("a", "b"), "model__kernel": ("c", "d")},
        ("engine.kernel=a model.kernel=c", "engine.kernel=b model.kernel=d"),
    ),
    "two at once": (
        {"engine__name": ("generate", "graph"), "model__dtype": ("bfloat16", "float16")},
        ("generate dtype=bfloat16", "graph dtype=float16"),
    ),
    "model": ({"model__name": ("qwen_7b", "qwen_3b")}, ("qwen_7b", "qwen_3b")),
}  # fmt: skip


def everything_said(recorder, folder, capsys, *arguments):
    """The terminal, the page, Markdown and the tables, each as one text without line ends."""
    parser = argparse.ArgumentParser()
    analyze.add_parser(parser.add_subparsers())
    args = ["--experiment", recorder.store.experiment, "--out", str(folder), "--no-log",
            "--tracking-uri", recorder.store.uri, *arguments]  # fmt: skip
    assert analyze.run(parser.parse_args(["analyze", *args])) == 0
    texts = {"terminal": capsys.readouterr().out}
    for path in [*folder.glob("*.*"), *folder.glob("tables/**/*.csv")]:
        if path.suffix != ".png":
            texts[path.name] = path.read_text()
    return {name: " ".join(text.split()) for name, text in texts.items()}


@pytest.mark.parametrize("factor", list(FACTORS))
def test_every_sentence_names_what_varies(recorder, factor):
    changes, names = FACTORS[factor]
    for level in range(2):
        own = {name: values[level] for name, values in changes.items()}
        for quant, energy_j in (("none", 45.3 - 30 * level), ("gptq4", 60.0 - 45 * level)):
            recorder.run(energy_j=energy_j, quant__name=quant, **own)
    loaded = load_runs(recorder.store.uri, recorder.store.experiment)
    (group,) = analyse(loaded).groups
    about = [note.partition(" takes ")[0] for note in group.notes if " takes " in note]
    assert len(set(about)) == 2
    for name, label in zip(names, about, strict=True):
        assert set(name.split()) <= set(label.split())
    texts = [n.partition(" gives ")[0] for n in group.notes if " gives the same text" in n]
    assert texts == about
    for sentence in [*group.notes, *group.findings]:
        for own in re.findall(r"\S+ against [^:(]+(?=[:(])", sentence):
            assert any(set(n.split()) <= set(own.split()) for n in names), sentence


def test_every_page_and_table_names_what_varies(recorder, tmp_path, capsys):
    changes, names = FACTORS["two at once"]
    for level in range(2):
        own = {name: values[level] for name, values in changes.items()}
        for quant in ("none", "gptq4"):
            recorder.run(quant__name=quant, **own)
    labels = [f"starter {quant} b1 {name}" for quant in ("none", "gptq4") for name in names]
    said = everything_said(recorder, tmp_path, capsys)
    for where in ("terminal", "index.html", "comparison.md"):
        for name in names:
            assert all(word.rpartition("=")[2] in said[where] for word in name.split())
    for where in ("summary.csv", "efficiency.csv"):
        assert all(label in said[where] for label in labels)
    for name in names:
        assert all(word in said["frontier.svg"] for word in name.split())


def test_a_factor_that_changes_with_the_quantization_is_named_and_is_no_effect_of_it(recorder):
    recorder.run(model__dtype="bfloat16")
    recorder.run(model__dtype="float16", quant__name="awq", quant__bits=4)
    loaded = load_runs(recorder.store.uri, recorder.store.experiment)
    (group,) = analyse(loaded).groups
    assert group.evidence.labels == (
        "starter none b1 dtype=bfloat16", "starter awq b1 dtype=float16",
    )  # fmt: skip
    assert group.evidence.families == ()
    assert group.notes == (
        "awq b1 dtype=float16: no run with quant=none and otherwise the same settings",
    )


def test_the_baseline_of_mixed_gpus_is_that_of_the_same_gpu(recorder):
    on_gpu = {"source": EnergySource.nvml, "scope": EnergyScope.gpu}
    for gpu, none_j, gptq_j in (("H100", 100.0, 50.0), ("L40S", 40.0, 30.0)):
        for quant, energy_j in (("none", none_j), ("gptq4", gptq_j)):
            recorder.run(
                quant__name=quant, energy_j=energy_j, tags={"codejoule.gpu": gpu}, **on_gpu
            )
    loaded = load_runs(recorder.store.uri, recorder.store.experiment)
    (group,) = analyse(loaded, Options(mix=("GPU",))).groups
    assert group.notes[:2] == (
        "gptq4 b1 GPU=H100 takes 50% less energy per task than none (2.50 against 5.00 J)",
        "gptq4 b1 GPU=L40S takes 25% less energy per task than none (1.50 against 2.00 J)",
    )


@pytest.mark.parametrize("samples_pass", [5, 9, 14])
def test_terminal_after_a_sweep_and_analysis_give_one_p_value_in_one_sentence(
    recorder, samples_pass, tmp_path, capsys
):
    run_ids = [
        recorder.run(quant__name=quant, passed=passed)
        for quant, passed in (("none", 15), ("gptq4", samples_pass), ("gptq8", 6))
    ]
    loaded = load_runs(recorder.store.uri, recorder.store.experiment, run_ids=set(run_ids))
    (after_sweep,) = analyse(loaded, Options(statistics=("accuracy_pairs",))).groups
    (group,) = analyse(loaded).groups
    assert after_sweep.notes == group.notes
    sentences = [n for n in after_sweep.notes if " against starter none" in n and "pass@1" in n]
    assert len(sentences) == 2
    frame = group.tables["accuracy_pairs"].frame
    for sentence in sentences:
        assert sentence in group.findings
        own = frame[frame["configuration"] == sentence.partition(" against ")[0]]
        p = own[own["reference"] == "starter none b1"]["p_value_holm"].iloc[0]
        text = "< 0.001" if p < 0.001 else f"= {p:.3f}"
        assert f"p after Holm {text})" in sentence
        assert ("this suite resolves" in sentence) == (p < 0.05)
    said = everything_said(recorder, tmp_path, capsys)
    for sentence in sentences:
        assert said["terminal"].count(sentence) == 1
        assert said["comparison.md"].count(sentence) == 1
        assert said["index.html"].count(sentence) == 1


ABOUT_ACCURACY = re.compile(r"pass@1(?! means nothing)|pass_at_1|\bsolved|Pareto", re.IGNORECASE)


def test_with_random_weights_nothing_is_said_of_accuracy(recorder, tmp_path, capsys):
    for batch, energy_j in ((1, 100.0), (8, 50.0)):
        for quant, passed in (("none", 3), ("gptq4", 0)):
            recorder.run(
                model__weights="random", quant__name=quant, batch__size=batch,
                energy_j=energy_j, passed=passed,
            )  # fmt: skip
    loaded = load_runs(recorder.store.uri, recorder.store.experiment)
    (group,) = analyse(loaded).groups
    for sentence in [*group.notes, *group.findings]:
        assert not ABOUT_ACCURACY.search(sentence), sentence
    for table in group.tables.values():
        assert not ABOUT_ACCURACY.search(" ".join(map(str, table.frame.columns))), table.name
        assert not ABOUT_ACCURACY.search(table.caption()), table.name
    said = everything_said(recorder, tmp_path, capsys)
    assert not ABOUT_ACCURACY.search(said["terminal"])
    assert not ABOUT_ACCURACY.search(said["comparison.md"])
    cards = said["index.html"].partition('<dl class="cards">')[2].partition("</dl>")[0]
    assert "Least energy" in cards
    assert not ABOUT_ACCURACY.search(cards)
    points = json.loads(re.search(r'id="data">(.*?)</script>', said["index.html"])[1])
    for point in points["groups"][0]["configurations"]:
        assert point["pass_at_1"] is None
    assert all(p is None for own in points["groups"][0]["tasks"]["passed"] for p in own)


@pytest.mark.parametrize("goal", [("--min-pass-at-1", "0.1"), ("--max-kwh", "1")])
def test_with_random_weights_nothing_is_recommended(recorder, goal, tmp_path, capsys):
    recorder.run(model__weights="random", passed=20)
    said = everything_said(recorder, tmp_path, capsys, *goal)["terminal"]
    assert ": none Unsure: - No configuration has both energy and pass@1 (which means" in said


def test_real_weights_beside_random_ones_keep_their_pass_at_1(recorder):
    recorder.run(model__weights="random", passed=20)
    recorder.run(passed=10)
    (group,) = analyse(
        load_runs(recorder.store.uri, recorder.store.experiment),
        Options(mix=("weights",)),
    ).groups
    by_weights = dict(
        zip(group.evidence.table["mixed.weights"], group.evidence.table["pass_at_1"], strict=True)
    )
    assert by_weights["bundled"] == 0.5
    assert by_weights["random"] != by_weights["random"]
