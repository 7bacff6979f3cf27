"""The table of cards: sources, plausibility, and the document that prints it."""

from typing import Any

import pytest
import yaml

from .conftest import ROOT

CARDS = sorted(p.stem for p in (ROOT / "conf" / "gpu").glob("*.yaml") if p.stem != "detected")


def fields(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "gpu" / f"{card}.yaml").read_text())
    return found


@pytest.mark.parametrize("card", CARDS)
def test_every_card_names_the_source_of_its_figures_and_what_its_driver_calls_it(card: str) -> None:
    text = (ROOT / "conf" / "gpu" / f"{card}.yaml").read_text()
    header = text[: text.index("defaults:")]
    assert "Source: NVIDIA" in header
    assert fields(card)["driver_names"]
    assert all(name.startswith("NVIDIA ") for name in fields(card)["driver_names"])


@pytest.mark.parametrize("card", CARDS)
def test_peaks_are_dense_ones(card: str) -> None:
    """int8 is twice as fast as 16 bits; four times on a GeForce, which halves float32 sums."""
    found = {key: float(value) for key, value in fields(card).items() if "peak" in key}
    assert found["peak_float16_flop_per_s"] == found["peak_bfloat16_flop_per_s"]
    ratio = found["peak_int8_op_per_s"] / found["peak_float16_flop_per_s"]
    assert ratio == pytest.approx(4 if card == "rtx_4090" else 2, rel=0.02)


@pytest.mark.parametrize("card", CARDS)
def test_the_document_prints_the_figures_of_the_file(card: str) -> None:
    text = (ROOT / "docs" / "reference" / "estimator.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{card}`")]
    found = fields(card)
    assert f"| {float(found['bandwidth_bytes_per_s']) / 1e12:g} TB/s |" in line
    assert f"| {float(found['peak_float16_flop_per_s']) / 1e12:g} TFLOP/s |" in line
    assert f"| {float(found['peak_int8_op_per_s']) / 1e12:,g} TOP/s |" in line
    assert f"| {found['power_limit_w']} W |" in line
    idle = found.get("idle_power_w")
    assert line.endswith("| assumed |" if idle is None else f"| {idle} W, measured |")
