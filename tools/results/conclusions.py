"""Each conclusion of the thesis against what was measured."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from codejoule.domain.text import number
from codejoule.statistics import RunRatio, percent_words
from codejoule.thesis import reductions
from codejoule.thesis.results import SIZES, published_configurations, qwen_configurations
from tools.results.data import Data
from tools.results.measured import HOST, SERVED, SETTINGS, Grid, Setting, instruct, spoken

HOLDS, OTHER, NOT, ABSENT = (
    "holds", "holds with another size", "does not hold", "not measured yet",
)  # fmt: skip
BILLIONS = {"0_5b": 0.494, "1_5b": 1.544, "3b": 3.086, "7b": 7.616, "14b": 14.770}
"""Parameters of Qwen2.5."""
LAST = SERVED[-1]


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """One conclusion of the thesis, and what became of it."""

    name: str
    said: str
    """What the thesis says."""
    verdicts: tuple[tuple[str, str], ...]
    """Verdict and by how much, each with its setting."""
    why: str
    """In words without numbers."""
    table: tuple[str, ...] = ()
    """Lines of Markdown with the figures."""

    @property
    def verdict(self) -> str:
        """Of all settings together."""
        words = list(dict.fromkeys(word for word, _ in self.verdicts if word != ABSENT))
        if not words:
            return ABSENT
        return words[0] if len(words) == 1 else "depends on engine and batch"


def conclusions(data: Data) -> tuple[Conclusion, ...]:
    """In the order of the thesis' abstract."""
    grid = Grid.of(data.cells)
    return (
        task_nature(data.tasks),
        batch_size(grid),
        model_size(grid),
        fine_tuning(grid),
        quantization(grid, "AWQ", "awq"),
        quantization(grid, "GPTQ-Int8", "gptq8"),
        quantization(grid, "GPTQ-Int4", "gptq4"),
        llama_and_deepseek(grid),
    )


def task_nature(tasks: pd.DataFrame) -> Conclusion:
    """Tokens of a task against its energy, one task at a time."""
    alone = tasks[(tasks["part"] == "smollm") & (tasks["batch"] == 1)]
    alone = alone.dropna(subset=["energy_j", "output_tokens"])
    alone = alone[(alone["energy_j"] > 0) & (alone["output_tokens"] > 0)]
    verdict, why = (ABSENT, f"a real model, one task at a time: {ABSENT}"), ""
    if len(alone) > 10:
        share = np.corrcoef(alone["output_tokens"], alone["energy_j"])[0, 1] ** 2
        per_token = alone["energy_j"] / alone["output_tokens"]
        spread = per_token.quantile(0.9) / per_token.quantile(0.1)
        most = alone["energy_j"].quantile(0.9) / alone["energy_j"].quantile(0.1)
        low, high = _correlation_interval(math.sqrt(share), len(alone))
        if low**2 > 0.5:
            why = (
                "What a task asks for decides how long its answer is, and its energy follows the "
                "tokens of the answer."
            )
        verdict = (
            HOLDS if low**2 > 0.5 else OTHER,
            f"SmolLM2 on {len(alone)} tasks, one at a time: the number of output tokens explains "
            f"{100 * share:.0f} % [{100 * low**2:.0f}, {100 * high**2:.0f}] of the variance of a "
            f"task's energy; the energy of a task spans {most:.1f} times from the 10th to the 90th "
            f"percentile, that of a token {spread:.2f} times",
        )
    return Conclusion(
        name="Task nature",
        said="the nature of a task affects its energy significantly",
        verdicts=(verdict,),
        why=why,
    )


def _correlation_interval(r: float, n: int) -> tuple[float, float]:
    """95 %, by Fisher's transformation."""
    centre, half = math.atanh(min(r, 1 - 1e-12)), 1.959964 / math.sqrt(n - 3)
    return max(0.0, math.tanh(centre - half)), math.tanh(centre + half)


def batch_size(grid: Grid) -> Conclusion:
    """The largest batch against one at a time."""
    first = SERVED[0]
    verdict = _of_largest(
        lambda size: grid.ratio((instruct(size), "none", LAST), (instruct(size), "none", first)),
        lambda ratio: NOT if ratio.high < 0.9 else HOLDS,
        lambda size, ratio: (
            f"{spoken(size)} with `vllm` takes {_times(ratio)} less energy per "
            f"token at batch {LAST.batch} than at {first.batch}"
        ),
        absent="`vllm` at several batch sizes",
    )
    own = {(r.model, r.batch_size): r.energy_kwh for r in published_configurations()}
    models = sorted({model for model, batch in own if (model, 8) in own and (model, 1) in own})
    change = max(abs(own[m, 8] / own[m, 1] - 1) for m in models)
    return Conclusion(
        name="Batch size",
        said=f"batch size has a minor effect (at most {100 * change:.1f} % between batches of 1 "
        "and 8 in table 5.18)",
        verdicts=(verdict,),
        why="The thesis' batch holds the samples of one task, of which greedy decoding has one, so "
        "nothing is batched. Sequences of different tasks that are decoded together read the "
        "weights once for all of them.",
        table=_batch_table(grid),
    )


def _batch_table(grid: Grid) -> tuple[str, ...]:
    rows = []
    for size in SIZES:
        cells = [grid.per_token_j(instruct(size), "none", s) for s in SETTINGS]
        if any(cell.size for cell in cells):
            rows.append([spoken(size), *(_mean(cell) for cell in cells)])
    return _titled("J per output token, unquantized:", rows)


def model_size(grid: Grid) -> Conclusion:
    """The exponent of energy over parameters between the smallest and the largest model."""
    verdicts, why = [], []
    for setting in (HOST, SERVED[0], LAST):
        sizes = grid.sizes(setting)
        if len(sizes) < 2:
            verdicts.append((ABSENT, f"{setting.words}: {ABSENT}"))
            continue
        small, large = sizes[0], sizes[-1]
        ratio = grid.ratio((instruct(large), "none", setting), (instruct(small), "none", setting))
        assert ratio is not None
        steps = math.log(BILLIONS[large] / BILLIONS[small])
        power, low, high = (math.log(v) / steps for v in (ratio.ratio, ratio.low, ratio.high))
        word = HOLDS if low <= 1.1 and high >= 0.9 else OTHER if low > 0.5 else NOT
        if setting is HOST and word == NOT:
            why.append(
                "With `generate` the host sets the pace: a small model takes nearly as long for a "
                "token as a large one, and the card mostly waits for both."
            )
        if setting is not HOST and word != NOT and not any("weights" in told for told in why):
            why.append("An engine that waits for memory takes energy as it reads weights.")
        verdicts.append(
            (
                word,
                f"{setting.words}: {spoken(large)} takes {number(ratio.ratio)} times "
                f"[{number(ratio.low)}, {number(ratio.high)}] the energy per token of "
                f"{spoken(small)}, which has {number(math.exp(steps))} times fewer parameters: "
                f"energy grows as parameters to the power of {power:.2f} [{low:.2f}, {high:.2f}]",
            )
        )
    own = {r.model: r for r in qwen_configurations() if r.quant == "none"}
    first, last = own["qwen_0_5b_base"], own["qwen_14b_base"]
    printed = last.energy_kwh / first.energy_kwh
    return Conclusion(
        name="Model size",
        said=f"energy grows nearly linearly with model size ({number(printed)} times from 0.5B to "
        "14B in table 5.24)",
        verdicts=tuple(verdicts),
        why=" ".join(why),
    )


def fine_tuning(grid: Grid) -> Conclusion:
    """Base against Instruct: the same architecture."""

    def ratio_of(size: str, setting: Setting) -> RunRatio | None:
        model = instruct(size)
        return grid.ratio((model, "none", setting), (f"{model}_base", "none", setting))

    def words(size: str, ratio: RunRatio, setting: Setting) -> str:
        return f"{setting.words}, a token of {spoken(size)} takes {_percent(ratio)}"

    verdicts = [
        _of_largest(
            partial(ratio_of, setting=setting),
            lambda ratio: HOLDS if ratio.high < 1 else NOT,
            partial(words, setting=setting),
            absent=setting.words,
        )
        for setting in (HOST, SERVED[0], LAST)
    ]
    rows = [
        [spoken(size), *(signed(ratio_of(size, setting)) for setting in SETTINGS)]
        for size in SIZES
        if any(ratio_of(size, setting) for setting in SETTINGS)
    ]
    own = {r.model: r for r in qwen_configurations() if r.quant == "none"}
    before, after = own["qwen_14b_base"], own["qwen_14b"]
    tokens = [60 * r.latency_min * r.throughput_tokens_per_s for r in (before, after)]
    energy = after.energy_kwh / before.energy_kwh
    length = tokens[1] / tokens[0]
    best = max((r for r in reductions() if r.technique == "fine-tuning"), key=lambda r: r.percent)
    return Conclusion(
        name="Fine-tuning",
        said=f"fine-tuning saves up to {best.percent:.1f} % ({best.size})",
        verdicts=tuple(verdicts),
        why="A fine-tuned model has the architecture of its base model, so a token costs the same; "
        f"it can only answer in fewer tokens. Of the thesis' own {100 * (1 - energy):.1f} % for "
        f"14B, {100 * (1 - length):.1f} % are fewer tokens by its tables (throughput times time), "
        f"and the energy of a token differs by {100 * (1 - energy / length):.1f} %, with no change "
        "that could cause it.",
        table=_titled("Energy per token of the fine-tuned model against its base model:", rows),
    )


def quantization(grid: Grid, technique: str, quant: str) -> Conclusion:
    """Each size and setting against the unquantized model."""
    own = [r for r in reductions() if r.technique == technique]
    best = max(own, key=lambda r: r.percent)
    key = best.size.lower().replace(".", "_")
    verdicts, ratios = [], {}
    for setting in (HOST, SERVED[0], LAST):
        ratio = grid.saved(instruct(key), quant, setting)
        size = key
        if ratio is None:
            # The largest model that was measured stands for it.
            sizes = [s for s in SIZES if grid.saved(instruct(s), quant, setting) is not None]
            if not sizes:
                verdicts.append((ABSENT, f"{setting.words}: {ABSENT}"))
                continue
            size = sizes[-1]
            ratio = grid.saved(instruct(size), quant, setting)
        assert ratio is not None
        ratios[setting] = ratio
        said = next(r for r in own if r.size == spoken(size))
        kernels = grid.kernels(quant, setting.engine)
        verdicts.append(
            (
                _holds(ratio, said.low, said.high),
                f"{setting.words}, {spoken(size)}: {_percent(ratio)} (thesis: {said.percent:.0f} % "
                f"less{f'; kernel {kernels}' if kernels else ''})",
            )
        )
    return Conclusion(
        name=technique,
        said=f"{technique} saves up to {best.percent:.1f} % ({best.size})",
        verdicts=tuple(verdicts),
        why=" ".join(_why(ratios)),
        table=_saving_table(grid, quant, {r.size: r.percent for r in own}),
    )


def llama_and_deepseek(grid: Grid) -> Conclusion:
    """The abstract's one comparison of models."""
    own = {r.model: r for r in published_configurations() if r.batch_size == 1}
    llama, deepseek = own["llama_8b"], own["deepseek_coder_16b"]
    runs = llama.energy_kwh / deepseek.energy_kwh
    tokens = [60 * r.latency_min * r.throughput_tokens_per_s for r in (llama, deepseek)]
    said = runs / (tokens[0] / tokens[1])
    verdicts, moe = [], False
    for setting in (HOST, SERVED[0], LAST):
        ratio = grid.ratio(("llama_8b", "none", setting), ("deepseek_coder_16b", "none", setting))
        if ratio is None:
            verdicts.append((ABSENT, f"{setting.words}: {ABSENT}"))
            continue
        moe = moe or ratio.low > 1
        word = NOT if ratio.low <= 1 else HOLDS if ratio.low <= said <= ratio.high else OTHER
        verdicts.append((word, f"{setting.words}: {_percent(ratio)} per token"))
    return Conclusion(
        name="Llama against DeepSeek",
        said=f"Llama 3.1 8B takes {100 * (runs - 1):.0f} % more energy than DeepSeek-Coder-V2-Lite "
        f"(table 5.18; {100 * (said - 1):.0f} % per token, since its answers were longer)",
        verdicts=tuple(verdicts),
        why="DeepSeek has more parameters, of which a token uses a few experts." if moe else "",
    )


def _why(ratios: Mapping[Setting, RunRatio]) -> Iterator[str]:
    """What explains these figures of a quantization."""
    first = ratios.get(SERVED[0])
    if HOST in ratios and ratios[HOST].high >= 1:
        yield (
            "With `generate` the host sets the pace: the bytes that packed weights save are not "
            "what is waited for, and packed layers give the host more work."
        )
    if first is not None and first.high < 1:
        yield "vLLM waits for memory at batch 1, and there the saved bytes count."
    if first is not None and LAST in ratios and ratios[LAST].low > first.high:
        yield (
            "The more sequences are decoded together, the more the products themselves count, and "
            "packed weights are unpacked to 16 bits before each."
        )


def _holds(ratio: RunRatio, low: float, high: float) -> str:
    """Against the range of the thesis' percentage by rounding."""
    if ratio.high >= 1:
        return NOT
    saved = (100 * (1 - ratio.high), 100 * (1 - ratio.low))
    return HOLDS if saved[0] <= high and saved[1] >= low else OTHER


def _saving_table(grid: Grid, quant: str, said: dict[str, float]) -> tuple[str, ...]:
    rows = []
    for size in SIZES:
        ratios = [grid.saved(instruct(size), quant, s) for s in SETTINGS]
        net = grid.saved(instruct(size), quant, HOST, "energy_gpu_net_j")
        if any(ratio is not None for ratio in ratios):
            thesis = said.get(spoken(size))
            told = "" if thesis is None else f"{0.0 - thesis:+.0f} %"
            rows.append([spoken(size), told, *map(signed, (ratios[0], net, *ratios[1:]))])
    first, *others = (s.words for s in SETTINGS)
    names = ["model", "thesis", first, f"{first}, net of idle power", *others]
    return _titled("Energy per token against the unquantized model:", rows, names)


def fp8_table(grid: Grid) -> tuple[str, ...]:
    """The same of fp8, which the thesis did not have."""
    return _saving_table(grid, "fp8", {})


# Words


def markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table: text left, figures right."""
    lines = [f"| {' | '.join(names)} |", f"|---|{'---:|' * (len(names) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _titled(
    title: str, rows: Sequence[Sequence[str]], names: Sequence[str] = ()
) -> tuple[str, ...]:
    """A table by setting, nothing where there are no rows."""
    if not rows:
        return ()
    names = names or ["model", *(setting.words for setting in SETTINGS)]
    return (title, "", *markdown(names, rows))


def _of_largest(
    ratio: Callable[[str], RunRatio | None],
    word: Callable[[RunRatio], str],
    words: Callable[[str, RunRatio], str],
    *,
    absent: str,
) -> tuple[str, str]:
    """Verdict on the largest model that was measured."""
    for size in reversed(SIZES):
        if (found := ratio(size)) is not None:
            return word(found), words(size, found)
    return ABSENT, f"{absent}: {ABSENT}"


def _percent(ratio: RunRatio) -> str:
    words = percent_words(ratio.ratio, ratio.low, ratio.high)
    return words if ratio.resolved else f"{words}, so no difference is shown"


def signed(ratio: RunRatio | None) -> str:
    """``-42 % [-44, -40]``; a figure that shows no difference in parentheses."""
    if ratio is None:
        return "-"
    change, low, high = (100 * (v - 1) for v in (ratio.ratio, ratio.low, ratio.high))
    text = f"{change:+.0f} % [{low:+.0f}, {high:+.0f}]"
    return text if ratio.resolved else f"({text})"


def _times(ratio: RunRatio) -> str:
    """Of a ratio below 1: ``51 times [49, 53]``."""
    middle, low, high = (1 / v for v in (ratio.ratio, ratio.high, ratio.low))
    return f"{number(middle)} times [{number(low)}, {number(high)}]"


def _mean(values: NDArray[np.float64]) -> str:
    return number(float(values.mean())) if values.size else "-"
