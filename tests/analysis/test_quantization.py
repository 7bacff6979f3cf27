"""Where quantization pays: curves, crossings and words of a real store, and none for one batch."""

import json

import numpy as np
import pytest

from codejoule.analysis import analyse, load_runs, ratio_curves
from codejoule.config.schema import TrackingConfig
from codejoule.report import render_group, write_comparison, write_report
from codejoule.tracking import prepare_store
from tests.analysis.simulated import write_run

RATIOS = {
    "gptq4": {1: 0.5, 8: 0.7, 32: 0.95, 64: 1.2, 128: 1.5},
    "awq": {1: 0.6, 8: 0.6, 32: 0.7, 64: 0.8, 128: 0.9},
    "gptq8": {1: 1.5, 8: 1.4, 32: 1.3, 64: 1.2, 128: 1.2},
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, with_database):
    folder = with_database(tmp_path_factory.mktemp("batches"))
    store = prepare_store(TrackingConfig(experiment="batches", dir=f"{folder}/mlruns"))
    rng = np.random.default_rng(0)
    passed = np.ones(16, dtype=bool)
    for batch in (1, 8, 32, 64, 128):
        for quant, ratio in {"none": 1.0, **{q: r[batch] for q, r in RATIOS.items()}}.items():
            for repeat in (1, 2, 3):
                energy_j = np.full(16, 10 * ratio / batch) * np.exp(rng.normal(0, 0.01))
                tags = {} if quant == "none" else {"codejoule.kernels": f"Marlin of {quant}"}
                write_run(
                    store, folder, quant=quant, batch=batch, repeat=repeat, energy_j=energy_j,
                    passed=passed, engine="vllm", tags=tags,
                )  # fmt: skip
    return load_runs(store.uri, "batches")


@pytest.fixture(scope="module")
def group(loaded):
    (group,) = analyse(loaded).groups
    return group


def test_a_curve_per_quantization_has_engine_kernel_and_card(group):
    curves = {curve.names["quant"]: curve for curve in ratio_curves(group.evidence)}
    assert set(curves) == set(RATIOS)
    for quant, curve in curves.items():
        assert curve.batches == (1, 8, 32, 64, 128)
        assert curve.ratios == pytest.approx(tuple(RATIOS[quant].values()), rel=0.05)
        ends = zip(curve.lows, curve.ratios, curve.highs, strict=True)
        assert all(low < ratio < high for low, ratio, high in ends)
        assert curve.names["engine"] == "vllm"
        assert curve.names["kernel"] == f"Marlin of {quant}"
        assert curve.names["card"] == "NVIDIA L40S"


def test_the_table_says_where_each_crosses_or_that_it_does_not(group):
    rows = {row["quant"]: row for row in group.tables["quantization_pays"].rows()}
    crossing = rows["gptq4"]
    assert 32 < crossing["crosses_at_batch"] < 64
    low, high = crossing["crosses_at_batch_ci_low"], crossing["crosses_at_batch_ci_high"]
    assert low < crossing["crosses_at_batch"] < high
    assert crossing["conclusion"].startswith("pays up to batch ")
    assert rows["awq"]["conclusion"] == "pays at every batch measured, 1 to 128"
    assert rows["gptq8"]["conclusion"] == "never at the batches measured, 1 to 128"
    assert np.isnan(rows["awq"]["crosses_at_batch"])
    points = group.tables["quantization_by_batch"]
    assert len(points.frame) == 15
    assert set(points.frame["verdict"]) <= {"pays", "costs", "not resolved"}
    json.dumps([t.as_json() for t in group.tables.values()], allow_nan=False)


def test_terminal_markdown_figure_and_page_show_it(loaded, group, tmp_path):
    said = render_group(group)
    assert "Where quantization pays:" in said
    assert "- qwen_7b awq vllm (Marlin of awq, NVIDIA L40S): pays at every batch measured" in said
    analysis = analyse(loaded)
    written = {path.name for path in write_comparison(analysis, tmp_path)}
    assert {"quantization.svg", "quantization.png"} <= written
    assert "### Where quantization pays" in (tmp_path / "comparison.md").read_text()
    html = write_report(analysis, loaded, tmp_path).read_text()
    assert 'id="t1-quantization_pays"' in html


def test_a_store_of_one_batch_has_no_curve_no_table_and_no_figure(loaded, tmp_path):
    from dataclasses import replace

    frame = loaded.frame
    one = replace(loaded, frame=frame[frame["params.batch.size"] == "8"].reset_index(drop=True))
    analysis = analyse(one)
    (group,) = analysis.groups
    assert ratio_curves(group.evidence) == ()
    assert "quantization_pays" not in group.tables
    assert "Where quantization pays" not in render_group(group)
    assert not any("quantization" in p.name for p in write_comparison(analysis, tmp_path))
    assert 'id="quantization"' not in write_report(analysis, one, tmp_path).read_text()


def test_curves_whose_differences_are_not_resolved_say_so():
    from codejoule.analysis import RatioCurve

    names = dict.fromkeys(("model", "quant", "engine", "kernel", "card", "settings"), "x")
    nan = float("nan")

    def words(ratios, lows, highs):
        return RatioCurve(
            names=names, batches=(1, 8), ratios=ratios, lows=lows, highs=highs
        ).conclusion

    assert words((0.9, 1.1), (0.8, 0.9), (1.1, 1.2)) == (
        "not known: no difference is resolved at batches 1 to 8"
    )
    assert words((0.9, 1.1), (nan, nan), (nan, nan)) == (
        "not known, for want of intervals: by its figures it takes less at batch 1 of 1 to 8"
    )
    assert words((0.5, 1.1), (0.4, 0.9), (0.6, 1.2)) == "pays at batch 1; not resolved at batch 8"
    assert words((1.1, 1.5), (0.9, 1.4), (1.2, 1.6)) == (
        "costs energy at batch 8; not resolved at batch 1"
    )
