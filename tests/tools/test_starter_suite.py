"""The bundled suites: true to their grammar, unseen in training, strict."""

import ast
import json
import random
import unittest
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codejoule.suites
from codejoule.domain import DOMAINS
from codejoule.suites.domains import domains_of
from tools.starter import suite as starter
from tools.starter.make import TRAINING_PROGRAMS
from tools.starter.suite.grammar import OPERATIONS
from tools.starter.suite.program import code_prompt, draw_input
from tools.starter.suite.sampling import draw_program

DATA = Path(codejoule.suites.__file__).parent / "data"
SUITES = {"starter": starter.STARTER, "starter_large": starter.STARTER_LARGE}
FIELDS = [
    "task_id", "complete_prompt", "instruct_prompt", "canonical_solution", "code_prompt",
    "test", "entry_point", "doc_struct", "libs",
]  # fmt: skip


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").open(encoding="utf-8")]


def passes(row: dict[str, str], body: str) -> bool:
    """Whether the tests of `row` accept `body`; runs only what our own grammar wrote."""
    source = f"{row['code_prompt']}\n    pass\n{row['complete_prompt']}{body}\n"
    namespace = {"__name__": "__test__"}
    exec(source, namespace)
    exec(_compiled(row["test"]), namespace)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(namespace["TestCases"]).run(result)
    return result.testsRun > 0 and result.wasSuccessful()


def sampled(tasks):
    large = tasks["starter_large"]
    return [*tasks["starter"], *large[:: 1 + len(large) // 50]]


@lru_cache(maxsize=1)
def _compiled(tests: str) -> CodeType:
    return compile(tests, "tests", "exec")


# Drawing all of it takes ten seconds; its beginning, with some of its hard tasks, one.
SOME_LARGE = tuple(replace(part, tasks=14) for part in starter.STARTER_LARGE)
WHOLE = pytest.param("whole", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["some", WHOLE])
def tasks(request) -> dict[str, list[starter.EvaluationTask]]:
    suites = SUITES if request.param == "whole" else SUITES | {"starter_large": SOME_LARGE}
    held_out = starter.held_out_pairs()
    return {
        name: starter.draw_tasks(parts, held_out=held_out, rng=random.Random(name))
        for name, parts in suites.items()
    }


@pytest.fixture(scope="module", params=["beginning", WHOLE])
def corpus(request) -> list[tuple[str, str, starter.Program]]:
    """What the bundled model was trained on."""
    whole = request.param == "whole"
    return list(starter.draw_corpus(TRAINING_PROGRAMS if whole else TRAINING_PROGRAMS // 5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prefix"), [("starter", "Starter"), ("starter_large", "StarterLarge")]
)
def test_shipped_suite_is_what_the_grammar_draws(name, prefix, tasks):
    shipped = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    drawn = starter.dump_rows(tasks[name], prefix=prefix).splitlines()
    if len(drawn) != len(shipped):
        # Of some of the large suite, only the first part begins where the whole one's does.
        shipped = shipped[: SOME_LARGE[0].tasks]
        drawn = drawn[: SOME_LARGE[0].tasks]
    assert drawn == shipped


@pytest.mark.parametrize("name", SUITES)
def test_rows_follow_the_schema_of_bigcodebench(name):
    rows = rows_of(name)
    assert len({row["task_id"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == FIELDS
        assert all(isinstance(value, str) for value in row.values())
        assert row["complete_prompt"].endswith('    """\n')
        assert row["canonical_solution"].startswith("    ")
        assert row["entry_point"] == "task_func"
        assert set(json.loads(row["doc_struct"])) == {
            "description", "notes", "params", "returns", "reqs", "raises", "examples",
        }  # fmt: skip
        assert ast.literal_eval(row["libs"]) == json.loads(row["doc_struct"])["reqs"]


@pytest.mark.parametrize("name", SUITES)
def test_every_domain_has_its_share(name):
    rows = rows_of(name)
    share = Counter(
        domain for row in rows for domain in domains_of(row["code_prompt"] + "    pass")
    )
    assert set(share) == set(DOMAINS)
    assert min(share.values()) >= len(rows) // 7


@pytest.mark.parametrize("name", SUITES)
def test_every_canonical_solution_passes_two_to_six_tests(name):
    for row in rows_of(name):
        assert 2 <= row["test"].count("def test_case_") <= 6, row["task_id"]
        assert passes(row, row["canonical_solution"]), row["task_id"]


@pytest.mark.slow
def test_near_misses_are_rejected(tasks):
    tried = 0
    for task in sampled(tasks):
        row = task.row("Any/0")
        wrong, _ = starter.near_misses(task.program)
        assert len(wrong) >= 5
        for miss in wrong:
            tried += 1
            # Another operation may need other modules than the task's prompt imports.
            assert not passes(row, _with_imports(miss)), (task.program.body(), miss.body())
    assert tried > 3000


def _with_imports(program: starter.Program) -> str:
    return "".join(f"    {line}\n" for line in program.imports()) + program.body()


def test_swapped_steps_are_rejected_where_the_order_matters(tasks):
    rejected = 0
    for task in sampled(tasks):
        row = task.row("Any/0")
        _, swapped = starter.near_misses(task.program)
        rejected += sum(not passes(row, _with_imports(swap)) for swap in swapped)
    assert rejected >= 15


@pytest.mark.slow
def test_training_never_sees_a_combination_prompt_or_body_of_the_suites(tasks, corpus):
    seen = set().union(*(program.pairs() for _, _, program in corpus))
    prompts = {prompt for prompt, _, _ in corpus}
    bodies = {body for _, body, _ in corpus}
    for task in (*tasks["starter"], *tasks["starter_large"]):
        assert task.program.pairs() - seen, task.program.body()
    for name in SUITES:
        for row in rows_of(name):
            assert row["complete_prompt"] not in prompts
            assert row["canonical_solution"] not in bodies


def test_training_sees_every_operation_often(corpus):
    counts = Counter(step.operation.name for *_, program in corpus for step in program.steps)
    often = 60 * len(corpus) / TRAINING_PROGRAMS
    assert min(counts[operation.name] for operation in OPERATIONS) >= often


def test_no_phrase_asks_for_two_operations():
    phrases = Counter((o.takes, phrase) for o in OPERATIONS for phrase in o.phrases)
    assert [phrase for phrase, count in phrases.items() if count > 1] == []
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


def test_training_texts_are_the_corpus_from_its_beginning(corpus):
    assert starter.training_texts(5) == [prompt + body for prompt, body, _ in corpus[:5]]


@given(seed=st.integers(0, 10**9), length=st.integers(2, 6))
def test_source_text_and_function_of_a_program_agree(seed, length):
    rng = random.Random(seed)
    program = draw_program(rng=rng, length=length, seen=Counter())
    value = draw_input(program, rng=rng, size=6)
    namespace = {}
    exec(code_prompt(program) + program.body(), namespace)
    try:
        expected = program.function()(value)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            namespace["task_func"](value)
    else:
        assert namespace["task_func"](value) == expected
