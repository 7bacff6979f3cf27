"""Policies, their fronts and the one that is wanted, as text and as JSON."""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from codejoule.cli.cascade.found import Found
from codejoule.cli.cascade.real import Outcome
from codejoule.domain import SCHEMA_VERSION, UNMEASURED, read_validity
from codejoule.domain.text import number
from codejoule.report.terminal import WIDTH, accuracy
from codejoule.statistics.policies import FOLDS, Selection


def text(found: Found) -> str:
    """The answer, the table of both fronts, and what the figures assume."""
    lines = [_title(found), *textwrap.wrap(sentence(found), WIDTH), ""]
    lines += [*_table(found), ""]
    for note in notes(found):
        lines += textwrap.wrap(note, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)


def _title(found: Found) -> str:
    study = found.study
    tests = "test" if study.shown == 1 else f"{study.shown} tests"
    return (
        f"{study.group.title}; shown: the first {tests} of each task, the verdict is by the others"
    )


def sentence(found: Found) -> str:
    """The policy that is wanted, against the single model that is."""
    best, model, tasks = found.best, found.best_model, found.asked
    energy_j, passed = float(best.energy_j[tasks].mean()), float(best.passed[tasks].mean())
    said = (
        f"For {found.wanted.words}: {_chosen(found, best)}. On tasks that did not choose it: "
        f"{_mark(found)}{number(energy_j)} J per task, pass@1 {passed:.3f}; it is "
        f"chosen in {round(best.share * FOLDS)} of {FOLDS} folds. "
    )
    if best.policy < found.count and best.policy == model.policy:
        return f"{said}It is a single model: no cascade and no routing is better for this."
    ratio, low, high = found.energy_ratio
    gain, least, most = found.pass_difference
    return (
        f"{said}Against the single model for the same, {_chosen(found, model)}: energy "
        f"{_percent(ratio)} [{_percent(low)}, {_percent(high)}], pass@1 {gain:+.3f} "
        f"[{least:+.3f}, {most:+.3f}]."
    )


def _chosen(found: Found, selection: Selection) -> str:
    """Its name, and whether it is good enough on tasks that did not choose it."""
    figures = (selection.energy_j[found.asked].mean(), selection.passed[found.asked].mean())
    reached = found.wanted.reached(*map(float, figures))
    return f"{found.names[selection.policy]}{'' if reached else ' (which does not reach it)'}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.3g} %"


def _mark(found: Found) -> str:
    return "~" if found.study.group.estimate else ""


def rows(found: Found) -> list[int]:
    """The policies that are shown: single models, those on the front, and the one that is asked
    for; by energy."""
    shown = found.front | (np.arange(len(found.names)) < found.count)
    shown[[found.policy, found.best.policy]] = True
    return sorted(np.flatnonzero(shown).tolist(), key=lambda i: float(found.energy_j[i]))


def _table(found: Found) -> Iterator[str]:
    head = ("policy", "J/task [95 % CI]", "pass@1 [95 % CI]", "J/correct", "front", "P(front)")
    lines = [head]
    for i in rows(found):
        energy_j, passed = float(found.energy_j[i]), float(found.pass_at_1[i])
        low, high = found.energy_ci_j[i]
        marks = ("*" if found.front[i] else "") + ("m" if found.front_of_models[i] else "")
        lines.append(
            (
                found.names[i],
                f"{_mark(found)}{number(energy_j)} [{number(low)}, {number(high)}]",
                accuracy(passed, *found.pass_ci[i]),
                f"{_mark(found)}{number(energy_j / passed)}" if passed else "-",
                marks,
                f"{found.front_probability[i]:.2f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number_, line in enumerate(lines):
        cells = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
        if number_ == 0:
            yield "-" * (sum(widths) + 2 * (len(widths) - 1))


def notes(found: Found) -> Iterator[str]:
    """What a reader must know of these figures, in sentences."""
    study, tasks = found.study, int(found.asked.sum())
    both = int(found.front.sum())
    alone = int(found.front[: found.count].sum())
    yield (
        f"* is on the front of all {len(found.names)} policies, m on that of the {found.count} "
        f"single models. {both - alone} of the {both} policies on the front are no single models. "
        "P(front): share of resamples of tasks in which a policy is on the front. The best of many "
        "looks better than it is; the sentence above has no such advantage."
    )
    held = "" if found.asked.all() else f"; the other {int((~found.asked).sum())} are held out"
    yield (
        f"Figures are of {tasks} tasks{held}. No task decides its own routing: what a policy has "
        "to decide, and which policy is chosen, is decided by the tasks of the other folds."
    )
    yield (
        "J/task: generation and judging by the shown tests"
        + (", both estimates" if study.group.estimate else "")
        + ". A member's energy is that of its own run: the batches of a later member are fuller "
        "there than in a cascade's last batch, and loading the models is apart."
    )
    if study.whole:
        yield (
            f"{study.whole} tasks have no tests to show (too few, or they do not come apart): no "
            "program of theirs is refused."
        )
    if study.unmetered:
        yield (
            f"Judging {study.unmetered} programs was too short to be metered; they count with the "
            "mean of the others."
        )


def outcome_text(found: Found, outcome: Outcome) -> str:
    """What was predicted of the run and what it showed."""
    own = found.prediction
    which = (
        "the same tasks again" if found.asked.all() else "tasks that were held out from choosing"
    )
    lines = [f"Run of {found.names[found.policy]} on {outcome.tasks} tasks ({which}):"]
    for step in outcome.steps:
        refused = "" if step.refused is None else f", {step.refused} fail the shown tests"
        lines.append(
            f"  {step.member}: {step.tasks} tasks, {_mark(found)}{number(step.energy_j)} J"
            f"{refused} (run {step.run_id})"
        )
    for what, predicted, low, high, measured, show in (
        ("J per task", own.energy_j, own.energy_low_j, own.energy_high_j, outcome.energy_j, number),
        (
            "pass@1", own.pass_at_1, own.pass_at_1_low, own.pass_at_1_high, outcome.pass_at_1,
            "{:.3f}".format,
        ),
    ):  # fmt: skip
        verdict = "inside" if low <= measured <= high else "OUTSIDE"
        lines.append(
            f"{what}: predicted {show(predicted)} [{show(low)}, {show(high)}], measured "
            f"{show(measured)}: {verdict}"
        )
    doubts = [d for d in read_validity([s.validity for s in outcome.steps]) if d not in UNMEASURED]
    if doubts:
        lines.append(f"The energy of this run is in doubt: {', '.join(d.words for d in doubts)}.")
    return "\n".join(lines)


def note(found: Found, outcome: Outcome) -> str:
    """The same for MLflow's page of the parent run, in Markdown."""
    return f"{sentence(found)}\n\n```text\n{outcome_text(found, outcome)}\n```"


def as_json(found: Found, outcome: Outcome | None) -> dict[str, Any]:
    """As what `json.dumps` takes."""

    def policy(i: int) -> dict[str, Any]:
        return {
            "policy": found.names[i],
            "members": [found.study.names[m] for m in found.policies[i].members],
            "energy_per_task_j": float(found.energy_j[i]),
            "energy_per_task_ci_j": list(found.energy_ci_j[i]),
            "pass_at_1": float(found.pass_at_1[i]),
            "pass_at_1_ci": [None if math.isnan(end) else end for end in found.pass_ci[i]],
            "on_front": bool(found.front[i]),
            "on_front_of_models": bool(found.front_of_models[i]),
            "front_probability": float(found.front_probability[i]),
        }

    def interval(three: tuple[float, float, float]) -> dict[str, Any]:
        value, *ends = three
        return {"value": value, "ci": ends}

    return {
        "schema_version": SCHEMA_VERSION,
        "facts": dict(found.study.group.facts),
        "wanted": found.wanted.words,
        "shown_tests": found.study.shown,
        "tasks": int(found.asked.sum()),
        "tasks_held_out": int((~found.asked).sum()),
        "answer": sentence(found),
        "best": found.names[found.best.policy],
        "best_share_of_folds": found.best.share,
        "best_model": found.names[found.best_model.policy],
        "energy_ratio_to_best_model": interval(found.energy_ratio),
        "pass_at_1_difference_to_best_model": interval(found.pass_difference),
        "policies": [policy(i) for i in range(len(found.names))],
        "predicted": {"policy": found.names[found.policy], **asdict(found.prediction)},
        "notes": list(notes(found)),
        "run": None if outcome is None else asdict(outcome),
    }
