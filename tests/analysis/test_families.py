"""Which configurations are compared with which."""

import pandas as pd
import pytest

from codejoule.analysis.families import ALL_PAIRS, configuration_labels, find_families

SETTINGS = ["model", "quant", "batch", "engine", "generation"]


def table(*rows):
    frame = pd.DataFrame(rows, columns=["model", "quant", "batch"])
    return frame.assign(engine="generate", generation="greedy")


def families(frame, settings=SETTINGS, variants=None):
    return {
        f.factor: f for f in find_families(frame, settings, variants or ["instruct"] * len(frame))
    }


def test_sets_differ_in_one_setting_alone_and_the_reference_is_first():
    frame = table(("a", "gptq4", 1), ("a", "none", 1), ("a", "none", 8), ("b", "awq", 1))
    found = families(frame)
    assert set(found) == {"quant", "batch"}
    (quant,) = found["quant"].sets
    assert (quant.levels, quant.configurations, quant.fixed) == (("none", "gptq4"), (1, 0), "a b1")
    (batch,) = found["batch"].sets
    assert (batch.levels, batch.fixed) == (("1", "8"), "a none")


def test_batches_are_ordered_as_numbers():
    frame = table(("a", "none", 32), ("a", "none", 8), ("a", "none", 1))
    assert families(frame)["batch"].sets[0].levels == ("1", "8", "32")


def test_fine_tuning_is_a_setting_of_its_own():
    frame = table(
        ("qwen_7b", "none", 1), ("qwen_7b_base", "none", 1), ("qwen_3b", "none", 1),
        ("qwen_3b_base", "none", 1),
    )  # fmt: skip
    found = families(frame, variants=["instruct", "base", "instruct", "base"])
    assert [s.fixed for s in found["variant"].sets] == ["qwen_7b", "qwen_3b"]
    assert found["variant"].sets[0].levels == ("base", "instruct")
    assert [s.fixed for s in found["model"].sets] == ["instruct", "base"]


def test_many_levels_are_compared_with_the_reference_only():
    few = table(*(("a", "none", 2**i) for i in range(ALL_PAIRS)))
    assert len(families(few)["batch"].sets[0].pairs()) == ALL_PAIRS * (ALL_PAIRS - 1) // 2
    many = table(*(("a", "none", 2**i) for i in range(ALL_PAIRS + 1)))
    pairs = families(many)["batch"].sets[0].pairs()
    assert pairs == [(i, 0) for i in range(1, ALL_PAIRS + 1)]


def test_labels_tell_rows_apart():
    frame = table(("a", "none", 1), ("a", "none", 1))
    frame["generation.max_new_tokens"] = ["64", "128"]
    settings = [*SETTINGS, "generation.max_new_tokens"]
    assert configuration_labels(frame, settings) == [
        "a none b1 max_new_tokens=64", "a none b1 max_new_tokens=128",
    ]  # fmt: skip
    (only,) = families(frame, settings).values()
    assert only.factor == "generation.max_new_tokens"


def test_one_configuration_answers_no_question():
    assert families(table(("a", "none", 1))) == {}
    with pytest.raises(KeyError):
        families(table(("a", "none", 1)), ["absent"])
