"""What quantization saves or costs in energy, and when quantizing has paid for itself."""

import math

import pytest

from codejoule.analysis import analyse, load_runs
from codejoule.domain import break_even_tasks


def notes(recorder):
    (group,) = analyse(load_runs(recorder.store.uri, recorder.store.experiment)).groups
    return group.notes


def test_break_even_is_what_was_spent_over_what_a_task_saves():
    assert break_even_tasks(cost_j=600.0, before_j=5.0, after_j=3.0) == 300.0


@pytest.mark.parametrize("after_j", [5.0, 6.0])
def test_what_saves_nothing_is_never_paid_back(after_j):
    assert math.isinf(break_even_tasks(cost_j=600.0, before_j=5.0, after_j=after_j))


def test_a_saving_is_told_with_the_tasks_after_which_quantizing_has_paid(recorder):
    recorder.run(energy_j=100.0, judged=False)
    recorder.run(energy_j=60.0, judged=False, quant__name="gptq4", quantize_j=900.0)
    assert notes(recorder)[0] == (
        "gptq4 b1 takes ~40% less energy per task than none (~3.00 against ~5.00 J); quantizing took "
        "~900 J, which is paid back after 450 tasks"
    )


def test_a_loss_is_told_and_never_paid_back(recorder):
    recorder.run(energy_j=100.0, judged=False)
    recorder.run(energy_j=140.0, judged=False, quant__name="gptq8", quantize_j=900.0)
    assert notes(recorder)[0].startswith("gptq8 b1 takes ~40% more energy per task than none")
    assert notes(recorder)[0].endswith("which is never paid back")


def test_without_the_energy_of_quantizing_only_the_saving_is_told(recorder):
    recorder.run(energy_j=100.0, judged=False)
    recorder.run(energy_j=60.0, judged=False, quant__name="awq")
    assert notes(recorder)[0].endswith("(~3.00 against ~5.00 J)")


def test_random_weights_are_compared_in_energy_alone(recorder):
    recorder.run(energy_j=100.0, model__weights="random")
    recorder.run(energy_j=60.0, model__weights="random", quant__name="awq")
    assert [note.partition(" energy ")[0] for note in notes(recorder)] == ["awq b1 takes ~40% less"]


def test_what_makes_a_run_doubtful_is_told_by_its_own_tag(recorder):
    tags = {"codejoule.batch_reduced_to": "32", "codejoule.validity": "throttled,reduced_batch"}
    recorder.run(batch__size=64, tags=tags)
    assert notes(recorder) == (
        "none b64: the GPU was slowed down by heat or its power supply; memory was too small for "
        "the batch, which was reduced to 32",
    )


def test_a_doubt_of_the_source_is_no_note_of_a_row(recorder):
    recorder.run(tags={"codejoule.validity": "estimate"})
    assert notes(recorder) == ()
