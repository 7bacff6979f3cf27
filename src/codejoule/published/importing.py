"""Published figures as runs of their own kind, beside one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from codejoule.domain import visible
from codejoule.published.figures import PublishedFigure
from codejoule.tracking import NOT_PREDICTED, PublishedRun, Store, record_published

FIGURE_TAG = "codejoule.published_figure"
"""Tag that holds the whole figure as one line of JSON."""
PREDICTED = "predicted_energy_per_output_token_j"
"""Metric of the prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the estimator says of a figure."""

    energy_per_output_token_j: float | None = None
    """Predicted [J]; None where it cannot be."""
    words: str
    """What was taken for it; or why there is none."""
    model: str | None = None
    """Name of the preset that describes the model; None where there is none."""

    def error(self, figure: PublishedFigure) -> float | None:
        """Relative error against the figure."""
        if self.energy_per_output_token_j is None:
            return None
        return self.energy_per_output_token_j / figure.energy_per_output_token_j - 1


def import_figures(
    store: Store, figures: Sequence[tuple[PublishedFigure, Prediction]], *, command: str
) -> tuple[int, int]:
    """Add what the store does not have; how many were added, and how many were there."""
    runs = [_run(figure, prediction) for figure, prediction in figures]
    return record_published(store, runs, sweep="published", command=command)


def _run(figure: PublishedFigure, prediction: Prediction) -> PublishedRun:
    name = prediction.model or PurePosixPath(figure.model).name
    params = {
        "model.name": name,
        "model.dtype": figure.dtype,
        "quant.name": figure.quantization,
        "batch.size": figure.batch,
        "engine.name": figure.engine,
        "suite.name": figure.suite,
        "published.cards": figure.cards if figure.cards > 1 else "",
        "published.settings": figure.settings,
        "repeat": 1,
    }
    tags = {
        FIGURE_TAG: figure.as_text(),
        "codejoule.source_model": figure.model,
        "codejoule.energy_note": figure.method,
        "codejoule.gpu": figure.card if figure.cards == 1 else f"{figure.cards} x {figure.card}",
        "codejoule.weights": figure.weights,
        "codejoule.length": figure.length,
        "codejoule.validity": figure.validity,
        "mlflow.note.content": f"Published, not measured here: {figure.source}",
    }
    derived = _derived(figure)
    if derived:
        tags["codejoule.derived"] = ", ".join(derived)
    known = {
        "energy_per_output_token_j": figure.energy_per_output_token_j,
        "throughput_tokens_per_s": figure.throughput_tokens_per_s,
        "tasks": figure.tasks,
        "pass_at_1": figure.pass_at_1,
        "pass_at_1_ci_low": figure.pass_at_1_ci_low,
        "pass_at_1_ci_high": figure.pass_at_1_ci_high,
    }
    predicted = prediction.energy_per_output_token_j
    return PublishedRun(
        identity=f"published {figure.as_text()}",
        name=f"{name}-{figure.quantization}-b{figure.batch}",
        source=figure.source,
        params={key: value for key, value in params.items() if value != ""},
        metrics={key: float(value) for key, value in known.items() if value is not None} | derived,
        tags={key: visible(value) for key, value in tags.items() if value},
        predictions={} if predicted is None else {PREDICTED: predicted},
        prediction_tags={
            NOT_PREDICTED if predicted is None else "codejoule.prediction": prediction.words
        },
    )


def _derived(figure: PublishedFigure) -> dict[str, float]:
    """Metrics that follow from the printed ones."""
    if figure.output_tokens is None:
        return {}
    per_answer_j = figure.energy_per_output_token_j * figure.output_tokens
    if figure.tasks is None:
        return {"energy_per_task_j": per_answer_j}
    found = {
        "energy_per_task_j": per_answer_j,
        "energy_generation_j": per_answer_j * figure.tasks,
        "output_tokens": figure.output_tokens * figure.tasks,
    }
    if figure.pass_at_1:
        found["energy_per_solved_task_j"] = per_answer_j / figure.pass_at_1
    return found


def mean_errors(
    figures: Sequence[tuple[PublishedFigure, Prediction]],
) -> Mapping[int, tuple[float, float, int]]:
    """By batch, the mean of the absolute relative errors, the mean error, and how many there
    are; batches with none are absent."""
    by_batch: dict[int, list[float]] = {}
    for figure, prediction in figures:
        error = prediction.error(figure)
        if error is not None:
            by_batch.setdefault(figure.batch, []).append(error)
    return {
        batch: (sum(map(abs, own)) / len(own), sum(own) / len(own), len(own))
        for batch, own in sorted(by_batch.items())
    }
