"""The estimator against figures that others printed, to which nothing was fitted."""

import pytest

from codejoule.cli.estimate.published import predict_figure
from codejoule.published import mean_errors, read_figures
from tests.docs.pages import ROOT

GOLDEN = ROOT / "tests" / "golden" / "published.csv"


@pytest.mark.slow
def test_the_mean_error_of_published_figures_is_what_the_lab_notes_say() -> None:
    _, reading = read_figures(GOLDEN)
    found = [(figure, predict_figure(figure)) for figure in reading.figures]
    by_batch = mean_errors(found)
    known = sum(count for _, _, count in by_batch.values())
    mean = sum(absolute * count for absolute, _, count in by_batch.values()) / known
    assert (len(found), known) == (37, 33)
    notes = (ROOT / "docs" / "lab-notes" / "estimator.md").read_text(encoding="utf-8")
    for batch, (absolute, signed, count) in by_batch.items():
        assert f"| {batch} | {count} | {absolute:.0%} | {signed:+.0%} |".replace("%", " %") in notes
    assert f"| all | {known} | {100 * mean:.1f} % | |" in notes
    # Dense models in 16 bits whose lengths are printed.
    plain = [
        prediction.error(figure)
        for figure, prediction in found
        if figure.quantization == "none" and figure.architecture
    ]
    assert plain == pytest.approx([-0.07, -0.03, -0.06, -0.12], abs=0.01)


def test_a_prediction_says_what_was_assumed_and_a_missing_one_why() -> None:
    _, reading = read_figures(GOLDEN)
    words = {figure.model: predict_figure(figure).words for figure in reading.figures}
    assert "prompts of 200 tokens assumed" in words["Qwen/Qwen3-8B"]
    assert "assumed" not in words["deepseek-ai/deepseek-coder-6.7b-instruct"]
    assert words["Qwen/Qwen2-7B"] == "the card RTX 5090 is not on file (conf/gpu)"
