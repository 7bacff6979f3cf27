"""One test per rule of docs/reference/suites.md, "Sanitizing"."""

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codejoule.suites import sanitize
from codejoule.suites.sanitize import longest_parseable_span


def test_prose_around_the_program_falls_away() -> None:
    text = "Here's the function:\n\ndef f(x):\n    return x\n\nIt returns its argument, doesn't it?"
    assert sanitize(text, "f") == "def f(x):\n    return x"


def test_a_closing_fence_and_what_follows_fall_away() -> None:
    text = "import os\n\ndef f():\n    return os.sep\n```\nThis uses `os`.\n```python\nf()\n```"
    assert sanitize(text, "f") == "import os\ndef f():\n    return os.sep"


def test_an_unparseable_tail_falls_away() -> None:
    assert sanitize("def f():\n    return 1\n\ndef g(:\n    retu", "f") == "def f():\n    return 1"


def test_the_span_with_most_lines_that_are_not_blank_wins() -> None:
    text = (
        "def f():\n    return 1\n)\ndef f():\n    x = 2\n    return x\n)\nimport a\n\n\n\nimport b"
    )
    assert sanitize(text, "f") == "def f():\n    x = 2\n    return x"


def test_of_equal_spans_the_first_wins() -> None:
    assert sanitize("def f():\n    return 1\n)\ndef f():\n    return 2", "f").endswith("return 1")


def test_what_the_entry_point_does_not_reach_is_dropped() -> None:
    text = "A = 1\nB = A\nC = 3\ndef g():\n    return B\ndef h():\n    return C\ndef f():\n    return g()"
    assert sanitize(text, "f") == "A = 1\nB = A\ndef g():\n    return B\ndef f():\n    return g()"


@pytest.mark.parametrize(
    "use",
    ["box.NAME", "g(NAME=1)", "lambda NAME: 1", "f'{NAME!r:>{NAME}}'", "[NAME for NAME in '']"],
)
def test_any_identifier_counts_as_a_use_whatever_its_role(use: str) -> None:
    text = f"NAME = 1\ndef f():\n    return {use}"
    assert sanitize(text, "f") == text


def test_names_in_strings_and_comments_are_no_use() -> None:
    text = "NAME = 1\ndef f():\n    # NAME\n    return 'NAME'"
    assert sanitize(text, "f") == "def f():\n    # NAME\n    return 'NAME'"


def test_nested_functions_and_classes_come_with_their_owner() -> None:
    text = "class A:\n    class B:\n        def g(self):\n            return K\n\nK = 2\ndef f():\n    def inner():\n        return A.B\n    return inner()"
    kept = text.replace("\n\nK", "\nK")
    assert sanitize(text, "f") == kept


def test_imports_come_first_and_all_of_them() -> None:
    text = "def f():\n    return 1\nimport os; from a.b import (\n    c)\nif True:\n    import sys"
    assert sanitize(text, "f") == "import os\nfrom a.b import (\n    c)\ndef f():\n    return 1"


def test_future_imports_are_dropped_as_upstream_does() -> None:
    text = "from __future__ import annotations\nfrom .x import y\ndef f():\n    return 1"
    assert sanitize(text, "f") == "from .x import y\ndef f():\n    return 1"


def test_decorated_definitions_are_dropped_as_upstream_does() -> None:
    text = "@cache\ndef g():\n    return 1\n@dataclass\nclass A:\n    x: int\ndef f():\n    return g(A)"
    assert sanitize(text, "f") == "def f():\n    return g(A)"


def test_async_functions_are_definitions() -> None:
    text = "async def g():\n    pass\nasync def f():\n    await g()"
    assert sanitize(text, "f") == text


def test_the_first_definition_of_a_name_stays() -> None:
    text = "def f():\n    return X\nX = 1\nX = 2\ndef f():\n    return 3"
    assert sanitize(text, "f") == "def f():\n    return X\nX = 1"


def test_globals_are_kept_without_comment_or_semicolon() -> None:
    text = "X = 1 ; # one\nY: int = 2  # two\ndef f():\n    return X + Y"
    assert sanitize(text, "f") == "X = 1\nY: int = 2\ndef f():\n    return X + Y"


def test_only_plain_assignments_define() -> None:
    text = "X += 1\nif True:\n    Y = 2\nfor Z in '':\n    pass\n(W := 3)\na, b = 1, 2\ndef f():\n    return X, Y, Z, W, a, b"
    assert sanitize(text, "f") == "def f():\n    return X, Y, Z, W, a, b"


def test_an_attributes_assignment_is_known_by_its_value_as_upstream_has_it() -> None:
    text = "settings.mode = fast\ndef f():\n    return fast"
    assert sanitize(text, "f") == text


def test_of_a_chained_assignment_the_first_target_is_the_name() -> None:
    assert sanitize("a = b = 1\ndef f():\n    return b", "f") == "def f():\n    return b"
    assert sanitize("a = b = 1\ndef f():\n    return a", "f").startswith("a = b = 1")


def test_a_main_guard_and_calls_are_dropped() -> None:
    text = "def f():\n    return 1\n\nif __name__ == '__main__':\n    print(f())\nprint(f())"
    assert sanitize(text, "f") == "def f():\n    return 1"


def test_a_trailing_use_of_the_entry_point_is_dropped() -> None:
    text = "def f(result):\n    return result\nresult = f(1)"
    assert sanitize(text, "f") == "def f(result):\n    return result"


def test_a_definition_on_one_line_at_the_end_is_lost_as_upstream_has_it() -> None:
    assert sanitize("import os\ndef f(): return 1", "f") == "import os"


def test_comments_below_a_body_belong_to_it_as_far_as_they_are_indented() -> None:
    text = "def f():\n    if x:\n        return 1\n        # deep\n\n    # level\n  # less\n    # lost\nY = 1"
    kept = "def f():\n    if x:\n        return 1\n        # deep\n\n    # level"
    assert sanitize(text, "f") == kept


def test_a_comment_behind_the_last_statement_stays() -> None:
    text = "class A:\n    x = 1; # one\ndef f():\n    return A  # two"
    assert sanitize(text, "f") == text


def test_comments_below_a_body_on_the_line_of_the_colon_are_not_its_own() -> None:
    text = "def g(): return 1  # yes\n    # no\ndef f():\n    return g()"
    assert sanitize(text, "f") == "def g(): return 1  # yes\ndef f():\n    return g()"


def test_tabs_count_as_eight_columns_where_comments_are_compared() -> None:
    text = "def f():\n    return 1\n\t# tab\n   # three"
    assert sanitize(text, "f") == "def f():\n    return 1\n\t# tab"


def test_columns_are_counted_in_bytes_behind_other_scripts() -> None:
    text = "é = 'ü'; X = 'ö'; Z = 3\ndef f():\n    return 'é' + X  # ß"
    assert sanitize(text, "f") == "X = 'ö'\ndef f():\n    return 'é' + X  # ß"


def test_functions_indented_with_tabs_stay() -> None:
    text = "import os\ndef f(x):\n\tif x:\n\t\treturn os.sep\n\treturn x\n\tx = f(1)  # f"
    assert sanitize(text, "f") == text
    assert sanitize(f"{text}\n\nprint(f(1))", "f") == text


def test_what_tests_ask_for_by_name_stays_with_what_it_needs() -> None:
    text = "class A:\n    x = K\nK = 1\nclass B:\n    pass\ndef f():\n    return 1"
    assert sanitize(text, "f", ["A", "absent"]) == text.replace("class B:\n    pass\n", "")
    assert sanitize(text, "f") == "def f():\n    return 1"


def test_a_byte_order_mark_costs_no_line() -> None:
    assert sanitize("\ufeffimport os\ndef f():\n    return os", "f").startswith("import os")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("odd", "\x0b\x0c\x1c\x85\u2028\u2029")
def test_only_the_parsers_breaks_cut_lines(odd: str, end: str) -> None:
    lines = [f"K = '{odd}f'  # {odd}", "def f():", f"    return K  # {odd}", f"    # {odd}f"]
    cut = sanitize(end.join([*lines, f"L = '{odd}f'", "f()"]), "f")
    first, *rest = lines
    assert cut == "\n".join([first.partition("  #")[0], end.join(rest)])


def test_carriage_returns_do_not_shift_the_cut() -> None:
    assert sanitize("X = 1\r\ndef f():\r\n    return X\r\nf()", "f") == (
        "X = 1\ndef f():\r\n    return X"
    )


def test_without_the_entry_point_the_imports_are_left() -> None:
    assert sanitize("import os\ndef g():\n    return 1", "f") == "import os"


def test_where_nothing_is_left_the_longest_span_comes_back() -> None:
    assert sanitize("x = 1\nprint(x)\n)", "f") == "x = 1\nprint(x)"


@pytest.mark.parametrize("text", ["", "\n", "I cannot do that.", "\0", "def f(:\n\x00", "(" * 500])
def test_hopeless_text_comes_back_as_its_first_line(text: str) -> None:
    assert sanitize(text, "f") == text.split("\n", maxsplit=1)[0]


def test_invalid_escapes_warn_nobody(recwarn: pytest.WarningsRecorder) -> None:
    sanitize("def f():\n    return '\\d'", "f")
    assert not recwarn.list


_LINES = st.sampled_from(
    [
        "def f(x):", "    return x", "    y = (", "        1)", "x = 1", "import os", "", "   ", ")",
        "```", "It's prose.", '    """', "'''", "try:", "except E:", "    pass", "else:", "@d", "\\",
        "class A:", "# note", "    # note", "if x:", "  z = 2", "x = [", "]", "f'{x", "match x:",
    ]
)  # fmt: skip


@pytest.mark.parametrize("cut", ["\n", "\r\n", "\r"])
@given(lines=st.lists(_LINES, max_size=9))
@example(lines=["\\", ""])
def test_the_quick_search_finds_what_trying_every_span_finds(lines: list[str], cut: str) -> None:
    best, found = 0, (lines or [""])[:1]
    for start in range(len(lines)):
        for end in range(start + 2, len(lines) + 1):
            filled = sum(bool(line.strip()) for line in lines[start:end])
            if filled > best and _parses(lines[start:end]):
                best, found = filled, lines[start:end]
    assert longest_parseable_span(cut.join(lines)) == cut.join(found)


@given(st.lists(_LINES, max_size=12))
def test_what_is_left_of_a_parseable_text_parses(lines: list[str]) -> None:
    if _parses(lines):
        assert _parses(sanitize("\n".join(lines), "f").split("\n"))


def _parses(lines: list[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True


def test_a_thousand_lines_of_prose_are_read_in_seconds() -> None:
    import time

    text = "\n".join(f"Line {n} isn't Python, and says so (at length." for n in range(1000))
    started = time.perf_counter()
    sanitize(text, "f")
    assert time.perf_counter() - started < 5
