"""Batching results of energy-code-eval: ``data/final_result/batching_combined.csv``."""

import re
from collections.abc import Mapping

from codejoule.published.figures import PublishedFigure
from codejoule.published.formats.base import Document, Format, Reading, merged, named_row

_COLUMNS = frozenset(
    {
        "model", "task", "elapsed_time", "gpu0_energy", "num_in_tokens", "num_out_tokens", "mns",
        "max_tokens", "n_samples",
    }
)  # fmt: skip
_QUANTIZED = re.compile(
    r"(?P<model>.+?)(?:-(?P<method>AWQ|GPTQ)|_(?P<bits>[48])bits\d+gs_HQQ)", re.IGNORECASE
)
_METHODS = {"awq": "awq", "gptq": "gptq4"}
_OTHER_CARD = re.compile(r"(?P<card>A\d+)_")
"""How the file's name begins where the card is not the A100-SXM4-80GB of the main file."""
_CARD = "A100-80GB"


def _read(document: Document) -> Reading:
    other = _OTHER_CARD.match(document.path.name)
    card = _CARD if other is None else other["card"]
    named = {str(row["model"]).casefold(): str(row["model"]) for row in document.data}
    figures = []
    for number, row in enumerate(document.data, start=1):
        with named_row(document, number):
            figures.append(_figure(row, card, named))
    # Rows of one configuration are repeats, with three numbers of requests.
    return Reading(figures=merged(figures))


def _figure(row: Mapping[str, str], card: str, named: Mapping[str, str]) -> PublishedFigure:
    model, quantization = row["model"], "none"
    match = _QUANTIZED.fullmatch(model)
    if match is not None:
        # The unquantized model of the file may be spelt otherwise: 6.7B and 6.7b.
        model = named.get(match["model"].casefold(), match["model"])
        method = match["method"]
        quantization = _METHODS[method.casefold()] if method else f"hqq{match['bits']}"
    requests, output_tokens = int(row["n_samples"]), float(row["num_out_tokens"])
    return PublishedFigure(
        model=model,
        card=card,
        engine="vllm",
        quantization=quantization,
        batch=int(row["mns"]),
        energy_per_output_token_j=float(row["gpu0_energy"]) / output_tokens,
        method="NVML's energy counter, GPU alone, whole batches of one prompt repeated",
        source="energy-code-eval, batching results",
        suite=row["task"],
        prompt_tokens=float(row["num_in_tokens"]) / requests,
        output_tokens=output_tokens / requests,
        throughput_tokens_per_s=output_tokens / float(row["elapsed_time"]),
        runs=1,
        weights="hub",
        length="fixed",
        settings=f"eager max_tokens={row['max_tokens']}",
    )


ENERGY_CODE_EVAL = Format(
    name="energy_code_eval",
    what="batching results of energy-code-eval (data/final_result/batching_combined.csv)",
    recognizes=lambda document: document.columns >= _COLUMNS,
    read=_read,
)
