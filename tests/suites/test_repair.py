"""What a model is told of its own program."""

from codejoule.config.schema import Split, Variant
from codejoule.domain import Prompt, Status, Task, Verdict
from codejoule.suites import MOST_OUTPUT, FailedProgram, build_prompt, told_by_tests

TEST = "import unittest\n\nclass TestCases(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(1), 2)\n"
TRACE = """\
Traceback (most recent call last):
  File "codejoule_inside/task.py", line 81, in run
  File "tests.py", line 5, in test_a
  File "solution.py", line 2, in f
ZeroDivisionError: division by zero
"""
FAILED = FailedProgram(program="def f(x):\n    return 1 / 0\n", output="test_a:\nit is wrong")


def verdict(**details: str) -> Verdict:
    return Verdict(
        task_id="Own/0", sample=0, status=Status.failed, reason="fail", details=details,
        evaluation_s=0.0, evaluation_cpu_s=0.0,
    )  # fmt: skip


def task() -> Task:
    return Task(
        task_id="Own/0", complete_prompt="def f(x):\n", instruct_prompt="Add one.",
        canonical_solution="    return x + 1\n", code_prompt="", test=TEST, entry_point="f",
        doc_struct="{}", libs=(), domains=(),
    )  # fmt: skip


def prompt(variant: Variant, *, thinking: bool = False) -> Prompt:
    return build_prompt(
        task(), split=Split.complete, variant=variant, sample=1, thinking=thinking, failed=FAILED,
        render_chat=lambda messages: "".join(f"<{m['role']}>{m['content']}" for m in messages),
    )  # fmt: skip


def test_a_traceback_gets_the_lines_of_source_that_python_would_show() -> None:
    told = told_by_tests(verdict(test_a=TRACE), judged=FAILED.program, test=TEST)
    assert (
        told
        == """\
test_a:
Traceback (most recent call last):
  File "tests.py", line 5, in test_a
    self.assertEqual(f(1), 2)
  File "solution.py", line 2, in f
    return 1 / 0
ZeroDivisionError: division by zero"""
    )


def test_lines_of_tests_that_are_kept_as_text_are_not_made_up() -> None:
    told = told_by_tests(
        verdict(test_base=TRACE), judged=FAILED.program, test="exec(compile('...', 'tests.py'))"
    )
    assert "tests.py" not in told and "return 1 / 0" in told


def test_what_concerns_all_tests_has_no_name() -> None:
    words = "the time limit was reached"
    assert told_by_tests(verdict(ALL=words), judged="", test=TEST) == words


def test_long_output_keeps_its_end_in_whole_lines() -> None:
    told = told_by_tests(verdict(ALL="x" * 1990 + "\nfirst\nlast"), judged="", test=TEST)
    assert told == "first\nlast"
    assert len(told_by_tests(verdict(ALL="y" * 9999), judged="", test=TEST)) == MOST_OUTPUT
    failed, lengths = FAILED, []
    while failed.output:
        lengths.append(len(failed.output))
        failed = failed.shortened()
    assert lengths == sorted(lengths, reverse=True), "ever shorter"


def test_a_base_model_continues_its_prompt_behind_program_and_output() -> None:
    assert prompt(Variant.base).text == (
        "def f(x):\n    return 1 / 0\n\n\n# The script fails tests with this output:\n"
        "# test_a:\n# it is wrong\n# The corrected script:\n\ndef f(x):\n"
    )


def test_an_instruct_model_finds_its_program_as_its_own_answer() -> None:
    text = prompt(Variant.instruct).text
    asked, answered, told, begun = (
        text.replace("<user>", "\0").replace("<assistant>", "\0").split("\0")[1:]
    )
    assert "def f(x):" in asked
    assert answered.endswith("```python\ndef f(x):\n    return 1 / 0\n```")
    assert "The script fails tests with this output:\n```\ntest_a:\nit is wrong\n```" in told
    assert begun.endswith("```python\n"), "the answer is begun as in the first round"


def test_a_model_that_thinks_begins_its_answer_itself() -> None:
    text = prompt(Variant.instruct, thinking=True).text
    assert text.rpartition("<user>")[2].startswith("The script fails tests")
