"""The pages and the figure, made from the data set."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codejoule.analysis import RatioCurve
from codejoule.domain.text import number
from codejoule.statistics import ALPHA, PairedAccuracy, compare_runs, paired_accuracy
from codejoule.statistics.crossing import find_crossing
from codejoule.thesis import reductions
from codejoule.thesis.results import SIZES
from tools.results.conclusions import (
    ABSENT,
    Conclusion,
    conclusions,
    fp8_table,
    markdown,
    signed,
)
from tools.results.data import SCHEMA, Data
from tools.results.measured import HOST, QUANTS, SERVED, Grid, instruct, spoken

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
FIGURE = "quantization.svg"
PUBLISHED = ROOT / "tests" / "golden" / "published.csv"
J_PER_KWH = 3.6e6


def pages(data: Data) -> dict[str, str]:
    """Text of each page by its name."""
    return {"index.md": "\n".join(_index(data)) + "\n", "data.md": "\n".join(_schema(data)) + "\n"}


def _index(data: Data) -> Iterator[str]:
    found = conclusions(data)
    grid = Grid.of(data.cells)
    yield "# Results: the thesis, repeated"
    yield ""
    yield from _intro(data)
    for title, section in (
        ("In short", lambda: _short(found)),
        ("When quantization pays", lambda: _pays(grid)),
        ("The reductions of the abstract", lambda: _abstract(grid)),
        ("Each conclusion", lambda: _each(found)),
        ("fp8", lambda: fp8_table(grid) or (_missing("vLLM with fp8"),)),
        ("Energy per correct program", lambda: _correct(data)),
        ("What a host-bound generate measures", lambda: _host(grid)),
        ("Predicted against measured", lambda: _predicted(grid)),
        ("Beside published figures", lambda: _published(grid)),
        ("The same on another day or machine", lambda: _again(data)),
        ("What it cost", lambda: _cost(data)),
        ("The data, and how to repeat it", lambda: _data(data)),
    ):
        yield f"## {title}"
        yield ""
        yield from section()
        yield ""


def _missing(what: str) -> str:
    return f"Not measured yet: {what}."


def _intro(data: Data) -> Iterator[str]:
    yield (
        "M. Buis measured on one L40S what code models cost in energy, and drew conclusions on the "
        "nature of tasks, batch size, model size, fine-tuning and quantization ([the thesis, "
        "recomputed](../explanation/thesis.md)). This page holds each of them against runs of our "
        "own. Its sentences and tables are made from [the data set](data.md) by a program."
    )
    yield ""
    done = data.cells[data.cells["status"] == "finished"]
    runs = done[done["quant"] != "all"]
    if runs.empty:
        yield "**Nothing has been measured yet.**"
        yield ""
        return
    cards = " and ".join(sorted(runs["gpu"].dropna().unique())) or "no GPU"
    days = sorted(day[:10] for day in runs["began"])
    configurations = runs.groupby(["part", "model", "quant", "engine", "batch", "suite"]).ngroups
    failed = int((data.cells["status"] == "failed").sum())
    yield (
        f"{len(runs)} runs of {configurations} configurations on {cards}, "
        + (f"on {days[0]}" if days[0] == days[-1] else f"between {days[0]} and {days[-1]}")
        + (f"; {failed} runs failed" if failed else "")
        + ". Models of the grid have **random weights** in their exact architecture: energy and "
        "speed are real, and nothing is said of their answers. Each task has as many prompt tokens "
        "as a task of BigCodeBench, and as many output tokens as the thesis' runs had on average. "
        "Intervals are 95 %, by the variance between runs, most of which share a loaded model; "
        "what a new start changes is told [below](#the-same-on-another-day-or-machine). Idle power "
        "is part of every figure that is not called net. A figure in parentheses shows no "
        "difference."
    )
    yield ""
    sources = set(runs["energy_source"].dropna())
    if sources != {"nvml"}:
        yield (
            f"**Energy here comes from {' and '.join(sorted(sources))}, not from a GPU's counter "
            "alone.**"
        )
        yield ""


def _short(found: tuple[Conclusion, ...]) -> Iterator[str]:
    rows = [
        (own.name, own.said, f"**{own.verdict}**", "<br>".join(how for _, how in own.verdicts))
        for own in found
    ]
    yield "| conclusion | the thesis says | here | by how much |"
    yield "|---|---|---|---|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _each(found: tuple[Conclusion, ...]) -> Iterator[str]:
    for own in found:
        yield f"### {own.name}: {own.verdict}"
        yield ""
        yield f"The thesis says that {own.said}."
        yield ""
        for word, how in own.verdicts:
            yield f"- {how}" + ("" if word == ABSENT else f": **{word}**")
        yield ""
        if own.why:
            yield own.why
            yield ""
        yield from own.table
        if own.table:
            yield ""


def _pays(grid: Grid) -> Iterator[str]:
    if not grid.curves:
        yield _missing("a quantized model beside the unquantized one")
        return
    yield f"![Energy of quantized models over the batch, by engine]({FIGURE})"
    yield ""
    yield (
        "Below 1 a quantization saves energy. The table has the least and the largest change over "
        "the models that were measured; in parentheses where some of them show no difference."
    )
    yield ""
    rows = []
    for quant in QUANTS:
        for engine in ("vllm", "generate"):
            own = [
                c for c in grid.curves if (c.names["quant"], c.names["engine"]) == (quant, engine)
            ]
            if own:
                row = [_range(own, setting.batch) for setting in SERVED]
                rows.append([f"{quant}, `{engine}`", str(len(own)), *row])
    names = ["quantization, engine", "models", *(f"batch {s.batch}" for s in SERVED)]
    yield from markdown(names, rows)
    for curve in grid.curves:
        found = find_crossing(curve.batches, curve.ratios, curve.lows, curve.highs)
        if found.at == found.at:
            yield ""
            yield (
                f"{spoken(curve.names['model'])} {curve.names['quant']} with "
                f"`{curve.names['engine']}` crosses 1 at about batch {found.at:.0f} "
                f"[{found.low:.0f}, {found.high:.0f}]."
            )


def _range(curves: Sequence[RatioCurve], batch: int) -> str:
    """``-45 to -38 %``."""
    points = [
        (ratio, low <= 1 <= high)
        for curve in curves
        for size, ratio, low, high in zip(
            curve.batches, curve.ratios, curve.lows, curve.highs, strict=True
        )
        if size == batch
    ]
    if not points:
        return "-"
    ends = [f"{100 * (value - 1):+.0f}" for value in (min(points)[0], max(points)[0])]
    text = f"{' to '.join(dict.fromkeys(ends))} %"
    return f"({text})" if any(unclear for _, unclear in points) else text


def _abstract(grid: Grid) -> Iterator[str]:
    rows = []
    for technique, quant in (("AWQ", "awq"), ("GPTQ-Int8", "gptq8"), ("GPTQ-Int4", "gptq4")):
        own = max((r for r in reductions() if r.technique == technique), key=lambda r: r.percent)
        cells = [technique, f"{-own.percent:+.1f} % ({own.size})"]
        for setting in (HOST, SERVED[0], SERVED[-1]):
            ratios = {s: grid.saved(instruct(s), quant, setting) for s in SIZES}
            known = {s: ratio for s, ratio in ratios.items() if ratio is not None}
            if known:
                best = min(known, key=lambda s: known[s].ratio)
                cells.append(f"{signed(known[best])} ({spoken(best)})")
            else:
                cells.append(ABSENT)
        rows.append(cells)
    names = ["largest saving", "thesis", *(s.words for s in (HOST, SERVED[0], SERVED[-1]))]
    yield from markdown(names, rows)


def _correct(data: Data) -> Iterator[str]:
    cells = data.cells
    runs = cells[(cells["part"] == "smollm") & (cells["status"] == "finished")]
    failed = cells[(cells["part"] == "smollm") & (cells["status"] == "failed")]
    runs = runs[runs["batch"] > 1]
    if runs.empty:
        yield _missing("a real model with real answers")
    for suite, own in runs.groupby("suite", sort=False):
        yield from _of_suite(str(suite), own, data.tasks)
    for _, row in failed.iterrows():
        yield ""
        yield f"`{row['quant']}` on {row['suite']} failed: {row['error']}"
    yield ""
    if data.starter:
        yield "The bundled model on `starter_large`, by `hydra/sweeper=resolve`, in its words:"
        yield ""
        yield f"> {data.starter}"
    else:
        yield _missing("the bundled model, resolved")


def _of_suite(suite: str, runs: pd.DataFrame, tasks: pd.DataFrame) -> Iterator[str]:
    batches = sorted(int(batch) for batch in runs["batch"].unique())
    engine = runs["engine"].iloc[0]
    yield (
        f"SmolLM2-135M-Instruct on {suite}, `{engine}` at batch {', '.join(map(str, batches))}, "
        "five samples per task. Loss and gain of pass@1 are against the unquantized model, task by "
        "task."
    )
    stored = runs["stored_as"].dropna().unique()
    if len(stored):
        yield ""
        yield (
            f"Its weights came from a file with {' and '.join(stored)}: the unquantized model has "
            "lost already what that rounding takes."
        )
    yield ""
    changes = _changes(tasks, suite)
    rows = []
    for quant in ("none", *QUANTS):
        own = runs[runs["quant"] == quant]
        if own.empty:
            continue
        row = own.iloc[0]
        found = changes.get(quant)
        interval = f"[{row['pass_at_1_ci_low']:.3f}, {row['pass_at_1_ci_high']:.3f}]"
        rows.append(
            [
                quant,
                f"{row['pass_at_1']:.3f} {interval}",
                "-" if found is None else _change(found),
                _number(row["energy_per_solved_task_j"]),
                "-" if quant == "none" else _per_solved(tasks, suite, quant),
                _number(row["energy_per_output_token_j"]),
                _number(row["throughput_tokens_per_s"]),
            ]
        )
    names = [
        "quant",
        "pass@1",
        "change",
        "J per solved task",
        "generation against none",
        "J/token",
        "tokens/s",
    ]
    yield from markdown(names, rows)
    yield ""
    for quant, said in _ACCURACY.items():
        found = changes.get(quant)
        if found is None:
            told = ABSENT
        elif found.ci_high < 0:
            told = f"pass@1 changes by {_change(found)}, so that a loss is shown"
        elif found.p_value_no_loss < ALPHA:
            told = f"a loss of {found.margin:g} or more is excluded ({_change(found)})"
        else:
            told = (
                f"pass@1 changes by {_change(found)}: neither is a loss shown, nor one of "
                f"{found.margin:g} excluded"
            )
        yield f"- {quant}: the thesis says {said}. Here: {told}."


_ACCURACY = {
    "gptq8": "that accuracy is not significantly reduced",
    "gptq4": "that accuracy decreases slightly",
    "awq": "that pass@1 is substantially lower",
}


def _changes(tasks: pd.DataFrame, suite: str) -> dict[str, PairedAccuracy]:
    """pass@1 of each quantization against the unquantized model, task by task."""
    rates = {quant: _rates(tasks, suite, quant) for quant in ("none", *QUANTS)}
    found = {}
    for quant in QUANTS:
        both = pd.concat([rates[quant], rates["none"]], axis=1, join="inner").dropna()
        if len(both):
            found[quant] = paired_accuracy(*(both[name].to_numpy() for name in (quant, "none")))
    return found


def _change(found: PairedAccuracy) -> str:
    return f"{found.difference:+.3f} [{found.ci_low:+.3f}, {found.ci_high:+.3f}]"


def _rates(tasks: pd.DataFrame, suite: str, quant: str) -> pd.Series:
    """Share of each task's samples that passed."""
    own = _answers(tasks, suite, quant)
    return own["solved"].groupby(own["task_id"]).mean().rename(quant)


def _answers(tasks: pd.DataFrame, suite: str, quant: str) -> pd.DataFrame:
    own = tasks[(tasks["part"] == "smollm") & (tasks["batch"] > 1) & (tasks["quant"] == quant)]
    own = own[own["suite"] == suite].dropna(subset=["verdict"])
    return own.assign(solved=own["verdict"] == "pass")


def _per_solved(tasks: pd.DataFrame, suite: str, quant: str) -> str:
    """Energy of generation per solved task over that of the unquantized model. The interval is a
    bootstrap over tasks, the same for both."""
    answers = [_answers(tasks, suite, name) for name in (quant, "none")]
    if any(own["energy_j"].isna().any() for own in answers):
        return "-"
    sums = [own.groupby("task_id")[["energy_j", "solved"]].sum() for own in answers]
    both = sums[0].join(sums[1], rsuffix="_none", how="inner").to_numpy(dtype=float)
    if not len(both) or not both[:, [1, 3]].sum(axis=0).all():
        return "-"
    rng = np.random.default_rng(0)
    drawn = both[rng.integers(len(both), size=(2000, len(both)))].sum(axis=1)
    drawn = drawn[(drawn[:, [1, 3]] > 0).all(axis=1)]
    changes = 100 * (drawn[:, 0] / drawn[:, 1] / (drawn[:, 2] / drawn[:, 3]) - 1)
    energy, solved, other, plain = both.sum(axis=0)
    own = 100 * (energy / solved / (other / plain) - 1)
    ends = np.quantile(changes, (0.025, 0.975))
    return f"{own:+.0f} % [{ends[0]:+.0f}, {ends[1]:+.0f}]"


def _host(grid: Grid) -> Iterator[str]:
    served = SERVED[0]
    sizes = [s for s in grid.sizes(HOST) if s in grid.sizes(served)]
    if not sizes:
        yield _missing("`generate` and vLLM with one and the same model")
        return
    rows = []
    for size in sizes:
        model = instruct(size)
        one, two = (grid.runs(model, "none", s) for s in (HOST, served))
        ratio = grid.ratio((model, "none", HOST), (model, "none", served))
        assert ratio is not None
        rows.append(
            [
                spoken(size),
                *(_number(1e3 / r["throughput_tokens_per_s"].mean()) for r in (one, two)),
                *(_number(r["mean_power_w"].mean()) for r in (one, two)),
                *(_number(r["idle_power_w"].mean()) for r in (one, two)),
                f"{number(ratio.ratio)} [{number(ratio.low)}, {number(ratio.high)}]",
            ]
        )
    names = [
        "model", "ms per token, generate", "vllm", "W, generate", "vllm", "W idle, generate",
        "vllm", "energy of generate over vllm",
    ]  # fmt: skip
    yield from markdown(names, rows)
    yield ""
    small, large = sizes[0], sizes[-1]
    if small != large:
        ms = [
            1e3 / grid.runs(instruct(s), "none", HOST)["throughput_tokens_per_s"].mean()
            for s in (small, large)
        ]
        idle = grid.runs(instruct(large), "none", HOST)
        share = (idle["idle_power_w"] / idle["mean_power_w"]).mean()
        told = "" if np.isnan(share) else (
            f" Of the power that the card draws meanwhile for {spoken(large)}, "
            f"{100 * share:.0f} % is that of a card that does nothing."
        )  # fmt: skip
        slower = ms[1] / ms[0]
        yield (
            f"With `generate` a token takes {number(slower)} times as long for {spoken(large)} as "
            f"for {spoken(small)}.{told}"
            + (
                " What is measured there is how long Python and the launching of kernels take. A "
                "quantization, a smaller model or a faster card changes little of that."
                if slower < 2
                else ""
            )
        )


def _predicted(grid: Grid) -> Iterator[str]:
    rows = grid.rows.dropna(subset=["predicted_energy_gpu_j", "energy_generation_j"])
    if rows.empty:
        yield _missing("a run that the estimator knows")
        return
    yield "The estimator's word on the energy of each run, as its run recorded it:"
    yield ""
    errors = rows["predicted_energy_gpu_j"] / rows["energy_generation_j"] - 1
    lines = []
    for names, own in errors.groupby([rows["engine"], rows["quant"]]):
        engine, quant = names
        lines.append(
            [
                f"`{engine}` {quant}",
                str(len(own)),
                f"{100 * own.mean():+.0f} %",
                f"{100 * own.abs().mean():.0f} %",
                f"{100 * own.iloc[own.abs().argmax()]:+.0f} %",
            ]
        )
    yield from markdown(["runs of", "runs", "mean error", "mean size of it", "largest"], lines)


def _published(grid: Grid) -> Iterator[str]:
    setting_of = {setting.batch: setting for setting in SERVED}
    with PUBLISHED.open(encoding="utf-8", newline="") as stream:
        theirs = [
            row
            for row in csv.DictReader(stream)
            if row["model"] == "meta-llama/Llama-3.1-8B-Instruct" and row["engine"] == "vllm"
            and row["quantization"] == "none" and row["card"] == "H100"
        ]  # fmt: skip
    rows = []
    for row in theirs:
        setting = setting_of.get(int(row["batch"]))
        own = grid.per_token_j("qwen_7b", "none", setting) if setting else np.empty(0)
        if own.size:
            printed = float(row["energy_per_output_token_j"])
            rows.append(
                [
                    row["batch"],
                    number(printed),
                    number(float(own.mean())),
                    f"{own.mean() / printed:.2f}",
                ]
            )
    if not rows:
        yield _missing("7B with vLLM, beside ML.ENERGY's 8B")
        return
    source = theirs[0]["source"]
    yield (
        f"{source}: {theirs[0]['model']} on an {theirs[0]['card']}, chat with free lengths, while "
        "all slots were busy, beside Qwen2.5-7B here (whole requests, prefill included). Models, "
        "cards and prompts differ, so that only the order of magnitude compares."
    )
    yield ""
    names = ["batch", "ML.ENERGY, J per output token", "here", "here over theirs"]
    yield from markdown(names, rows)


def _again(data: Data) -> Iterator[str]:
    first, second = Grid.of(data.cells), Grid.of(data.cells, "again")
    keys = ["model", "quant", "engine", "batch"]
    both = Grid(pd.concat([first.rows, second.rows]))
    rows, inside = [], 0
    for names, own in second.rows.groupby(keys):
        model, quant, engine, batch = (str(name) for name in names)
        old = first.rows
        for key, value in zip(keys, names, strict=True):
            old = old[old[key] == value]
        if old.empty:
            continue
        a, b = ((r["energy_generation_j"] / r["output_tokens"]).to_numpy(float) for r in (own, old))
        ratio = compare_runs(a, b, variance=both.variances[engine, "energy_generation_j"])
        inside += not ratio.resolved
        rows.append(
            [f"{model} {quant} `{engine}` {batch}", number(float(b.mean())),
             number(float(a.mean())), signed(ratio)]
        )  # fmt: skip
    if not rows:
        yield _missing("a second run of a part of it")
        return
    yield from markdown(["configuration", "first, J/token", "second", "difference"], rows)
    yield ""
    yield (
        f"In {inside} of {len(rows)} configurations the interval of the difference contains 0: the "
        "second run agrees with the first there."
    )


def _cost(data: Data) -> Iterator[str]:
    calls = data.calls.dropna(subset=["seconds"])
    if calls.empty:
        yield _missing("what the study took")
        return
    minutes, energy_j = calls["seconds"].sum() / 60, calls["gpu_j"].sum(min_count=1)
    done = data.cells[data.cells["status"] == "finished"]
    generation_j = done["energy_generation_j"].sum()
    measured = "" if np.isnan(energy_j) else (
        f" and {number(energy_j / J_PER_KWH)} kWh, of which generation itself took "
        f"{number(generation_j / J_PER_KWH)}; the rest is loading, compiling, judging and waiting"
    )  # fmt: skip
    yield (
        f"{len(calls)} calls took {number(minutes)} minutes of one GPU{measured}. The thesis' 25 "
        f"configurations took {number(_thesis_kwh())} kWh on an L40S by its tables."
    )
    if data.starter:
        yield ""
        yield (
            "What `resolve` spent on the bundled model, and what the full grid would have taken, "
            "stands in [its answer](#energy-per-correct-program)."
        )


def _thesis_kwh() -> float:
    from codejoule.thesis.results import qwen_configurations

    return sum(row.energy_kwh for row in qwen_configurations())


def _data(data: Data) -> Iterator[str]:
    yield (
        "[The data set](data.md) is in `docs/results/data`. The SHA-256 of its list of checksums "
        f"is `{data.checksum}`."
    )
    yield ""
    yield "On a machine with one NVIDIA GPU this command goes on until all is measured:"
    yield ""
    yield "```text"
    yield "python benchmarks/showpiece.py --out outputs/showpiece --seconds 28800"
    yield "```"
    yield ""
    yield (
        "With `--part grid` it goes on where the data set ends, if `cells.csv` and `calls.csv` of "
        "`docs/results/data` are copied into that folder first. This one makes the data set and "
        "these pages of what it left:"
    )
    yield ""
    yield "```text"
    yield "python -m tools.results --from outputs/showpiece"
    yield "```"
    yield ""
    yield (
        "Where the hub can be reached, `codejoule run +experiment=showpiece` is the grid with real "
        "weights and BigCodeBench itself."
    )


def _schema(data: Data) -> Iterator[str]:
    yield "# The data set of the results"
    yield ""
    yield (
        "`docs/results/data` has what [the page of results](index.md) is made from. `cells` and "
        "`calls` are CSV and Parquet, `tasks` is Parquet alone. Units end names; what was not "
        "measured is empty. `starter.txt` is what `resolve` said of the bundled model. "
        "`SHA256SUMS` has the checksum of each file."
    )
    counts = {"cells": len(data.cells), "calls": len(data.calls), "tasks": len(data.tasks)}
    about = {
        "cells": "a row per run",
        "calls": "a row per call of the program that measured",
        "tasks": "a row per task and sample of the parts smollm and starter",
    }
    for name, columns in SCHEMA.items():
        yield ""
        yield f"## {name}: {about[name]} ({counts[name]} rows)"
        yield ""
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        yield from (f"| `{own}` | {kind} | {said} |" for own, (kind, said) in columns.items())


def _number(value: float) -> str:
    return "-" if pd.isna(value) else number(float(value))


def figures(data: Data, folder: Path) -> None:
    """When quantization pays: a panel per model, a colour per quantization, a mark per engine."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    from codejoule.report.frontier import COLOURS, write_figure

    curves = Grid.of(data.cells).curves
    (folder / FIGURE).unlink(missing_ok=True)
    models = list(dict.fromkeys(curve.names["model"] for curve in curves))
    if not models:
        return
    width = 1 + 3 * len(models)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    styles = {"vllm": ("o-", 5), "generate": ("X", 9)}
    handles: dict[str, Any] = {}
    for axes, model in zip(panels, models, strict=True):
        axes.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
        for curve in curves:
            if curve.names["model"] != model:
                continue
            ratios = np.array(curve.ratios)
            style, marker_size = styles[curve.names["engine"]]
            line = axes.errorbar(
                curve.batches, ratios, yerr=[ratios - curve.lows, curve.highs - ratios], fmt=style,
                color=COLOURS[QUANTS.index(curve.names["quant"])], markersize=marker_size,
                linewidth=1.2, elinewidth=0.8, capsize=2,
            )  # fmt: skip
            handles.setdefault(f"{curve.names['quant']}, {curve.names['engine']}", line)
        axes.set(xscale="log", yscale="log", title=f"Qwen2.5-{spoken(model)}", xlabel="batch")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator([setting.batch for setting in SERVED]))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("energy over that of the unquantized model")
    figure.legend(
        handles=list(handles.values()), labels=list(handles), loc="outside lower center", ncols=4,
        frameon=False, fontsize=8,
    )  # fmt: skip
    write_figure(figure, folder / FIGURE)
