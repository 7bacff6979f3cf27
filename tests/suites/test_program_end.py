"""Where an answer's program ends: never before what is judged is there."""

import dataclasses
import random
import textwrap

import pytest

from codejoule.config.schema import Split, Variant
from codejoule.domain import Task
from codejoule.suites import ProgramEnd, sanitize

PROMPT = 'import math\n\n\ndef area(r):\n    """The area of a circle.\n\n    >>> area(1)\n    """\n'


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(
        task_id="T/0", complete_prompt=PROMPT, instruct_prompt="", canonical_solution="",
        code_prompt="import math\n\n\ndef area(r):\n", test="", entry_point="area",
        doc_struct="{}", libs=(), domains=(),
    )  # fmt: skip


def program_of(task: Task, text: str, variant: Variant) -> str | None:
    """What is left of `text`; None where it goes on to its end."""
    end = ProgramEnd(task, split=Split.complete, variant=variant)
    for character in text:
        if (kept := end.feed(character)) is not None:
            return text[:kept]
    return None


def check_ends(task: Task, program: str, rest: str, variant: Variant) -> None:
    assert program_of(task, program + rest, variant) == program
    before = PROMPT if variant is Variant.base else ""
    cut, whole = sanitize(before + program, "area"), sanitize(before + program + rest, "area")
    assert cut == whole


BODY = "    return math.pi * r**2\n"
FUNCTION = "import math\n\ndef area(r):\n" + BODY

RESTS = {
    "closing fence": "```\n",
    "closing fence, prose and another fence": "```\n\nIt works:\n\n```python\narea(2)\n```\n",
    "prose": "This function returns the area.\n",
    "prose with an apostrophe": "Here's what it does.\n",
    "an example call": "area(2)\n",
    "a call in an assignment": "result = area(2)\n",
    "an assertion": "assert area(0) == 0\n",
    "a test class": "class TestArea(unittest.TestCase):\n    def test(self): pass\n",
    "another function": "def perimeter(x):\n    return 2 * math.pi * x\n",
    "an asynchronous function": "async def further():\n    pass\n",
    "the function again": "def area(radius):\n    return 3 * radius**2\n",
    "a decorated function": "@cache\ndef area(r):\n    pass\n",
    "a loop over calls": "for x in (1, 2): area(x)\n",
}


@pytest.mark.parametrize("name", RESTS)
def test_a_base_models_program_ends_before(name: str, task: Task) -> None:
    check_ends(task, BODY, RESTS[name], Variant.base)
    check_ends(task, BODY + "\n\n# and now\n", RESTS[name], Variant.base)


@pytest.mark.parametrize("name", RESTS)
def test_an_instruct_models_program_ends_before(name: str, task: Task) -> None:
    check_ends(task, FUNCTION, RESTS[name], Variant.instruct)


BODIES = {
    "a string of several lines": '    text = """\ndef fake():\narea(1)\n```\n"""\n    return text\n',
    "a dictionary at the margin": "    table = {\n'a': 1,\narea: 2,\n}\n    return table[r]\n",
    "a continued line": "    return r + \\\nmath.pi + \\\n1\n",
    "comments at the margin": "    if r:\n# note\n        return 1\n\n# def area(\n    return 2\n",
    "tabs": "\tif r:\n\t\treturn 1\n\treturn 2\n",
    "a nested function": "    def inner(x):\n        return x\n\n    return inner(r)\n",
    "a nested class": "    class Point:\n        x: int = 1\n    return Point().x\n",
    "brackets in a string": '    return "(" + str(r)\n',
    "an f-string": "    return f\"{r!r:>{10}} {'('}\"\n",
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("rest", ["```\n", "area(2)\n", "def further():\n    pass\n"])
def test_nothing_inside_the_function_ends_it(name: str, rest: str, task: Task) -> None:
    check_ends(task, BODIES[name], rest, Variant.base)
    check_ends(task, "import math\ndef area(r):\n" + BODIES[name], rest, Variant.instruct)


GOES_ON = {
    "a helper is still to come": """
        def area(r):
            return square(r) * 3.14

        def unrelated(x):
            return x
        """,
    "an import is still to come": """
        def area(r):
            return np.pi * r**2

        area(1)
        """,
    "the helper needs one more": """
        def area(r):
            return square(r)

        def square(x):
            return power(x, 2)

        area(1)
        """,
    "there is no such function": """
        def areas(r):
            return 3 * r**2

        areas(1)
        """,
    "the function has no body but a docstring": '''
        def area(r):
            """The area."""

        def further(x):
            return x
        ''',
    "the function is on one line, which sanitizing may drop": """
        def area(r): return 3 * r**2

        area(1)
        """,
    "sanitizing drops a decorated function": """
        @functools.cache
        def area(r):
            return 3 * r**2

        area(1)
        """,
    "the function stands inside another statement": """
        if True:
            def area(r):
                return 3 * r**2

        area(1)
        """,
    "sanitizing drops what binds a name": """
        try:
            import numpy as np
        except ImportError:
            np = None

        def area(r):
            return np.pi * r**2

        area(1)
        """,
    "the text before does not parse": """
        Here is the function:
        def area(r):
            return 3 * r**2

        area(1)
        """,
    "it is open": '''
        def area(r):
            return """
        area(1)
        def further():
        ```
        ''',
}


@pytest.mark.parametrize("name", GOES_ON)
def test_the_answer_goes_on_where(name: str, task: Task) -> None:
    text = textwrap.dedent(GOES_ON[name]).lstrip()
    assert program_of(task, text, Variant.instruct) is None


def test_helpers_and_imports_after_the_function_belong_to_the_program(task: Task) -> None:
    program = textwrap.dedent("""\
        def area(r):
            return scale(square(r))

        import math

        # the helpers
        def square(x):
            return x * x


        FACTOR = math.pi


        def scale(x):
            return FACTOR * x


        """)
    check_ends(task, program, "area(1)\n", Variant.instruct)


def test_what_sanitizing_keeps_by_name_alone_belongs_to_the_program(task: Task) -> None:
    program = FUNCTION + "\nr = 3\nimport os\ndef pi():\n    return 3\n"
    check_ends(task, program, "area(r)\n", Variant.instruct)


def test_statements_that_prepare_a_call_are_left_to_go_on(task: Task) -> None:
    program = FUNCTION + "\n# Example\nmath.floor(1)\nother = [\n1]\nr = 3\n"
    check_ends(task, program, "area(r)\n", Variant.instruct)


def test_what_only_tests_ask_for_belongs_to_the_program(task: Task) -> None:
    tested = dataclasses.replace(task, tested_names=("Circle",))
    circle = "class Circle:\n    r = 1\n\n"
    assert program_of(tested, FUNCTION + "area(1)\n", Variant.instruct) is None
    assert program_of(tested, FUNCTION + "def other():\n    pass\n", Variant.instruct) is None
    for program in (circle + FUNCTION, FUNCTION + circle):
        assert program_of(tested, program + "area(1)\n", Variant.instruct) == program
    given = dataclasses.replace(tested, code_prompt="class Circle:\n    pass\n")
    assert program_of(given, FUNCTION + "area(1)\n", Variant.instruct) == FUNCTION


def test_lines_end_where_the_parsers_do(task: Task) -> None:
    for end in ("\r\n", "\r"):
        program = (FUNCTION + "# it's \u2028 area(1)\n").replace("\n", end)
        assert program_of(task, program + f"area(1){end}\n", Variant.instruct) == program


def test_names_that_the_code_prompt_binds_are_there(task: Task) -> None:
    program = "def area(r):\n" + BODY
    check_ends(task, program, "area(1)\n", Variant.instruct)
    without = dataclasses.replace(task, code_prompt="def area(r):\n")
    assert program_of(without, program + "area(1)\n", Variant.instruct) is None
    broken = dataclasses.replace(task, code_prompt="def area(r")
    assert program_of(broken, program + "area(1)\n", Variant.instruct) is None


def test_a_function_in_the_prompt_alone_is_no_program(task: Task) -> None:
    assert program_of(task, "\narea(1)\ndef further():\n    pass\n", Variant.base) is None


def test_a_prompt_that_ends_within_a_line_is_continued(task: Task) -> None:
    open_ended = dataclasses.replace(task, complete_prompt="def area(r):\n    return 3 *")
    assert program_of(open_ended, " r**2\narea(1)\n", Variant.base) == " r**2\n"
    assert program_of(open_ended, " (r\narea(1)\n)\n", Variant.base) is None
    bracket = dataclasses.replace(task, complete_prompt="def area(r):\n    return (3 *\n")
    assert program_of(bracket, "r\n)\narea(1)\n", Variant.base) == "r\n)\n"


def test_a_prompt_without_a_signature_waits_for_the_function(task: Task) -> None:
    request = dataclasses.replace(
        task, complete_prompt='"""\nWrite area.\nassert area(0) == 0\n"""\n'
    )
    assert program_of(request, FUNCTION + "def more():\n", Variant.base) == FUNCTION


def test_the_end_does_not_depend_on_the_pieces(task: Task) -> None:
    rng = random.Random(0)
    text = FUNCTION + "\n# Example\nr = 3\n" + RESTS["closing fence, prose and another fence"] * 3
    expected = program_of(task, text, Variant.instruct)
    assert expected is not None
    for _ in range(20):
        end = ProgramEnd(task, split=Split.complete, variant=Variant.instruct)
        place, kept = 0, None
        while kept is None and place < len(text):
            step = rng.randint(1, 40)
            kept = end.feed(text[place : place + step])
            place += step
        assert kept == len(expected)
