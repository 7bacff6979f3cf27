import ast
from types import CodeType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.domain import future_first, join_sources, preamble, source_lines, visible

BREAKS = ["\n", "\r\n", "\r"]
ODD = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\ufeff\u200bé😀\t "
"""What `str.splitlines` cuts at, and other characters that editors and models leave behind."""

comments = st.text(st.sampled_from(ODD + "a'\"#\\"), max_size=8).map(lambda text: f"#{text}")
strings = st.text(st.sampled_from(ODD + "a"), max_size=8).map(lambda text: f"x = '{text}'")
pieces = st.lists(st.tuples(comments | strings, st.sampled_from(BREAKS)), max_size=8)


@given(st.text(st.sampled_from(ODD + "ab\n\r")))
def test_lines_put_together_are_the_text(text: str) -> None:
    assert "".join(source_lines(text)) == text


@given(pieces)
def test_lines_are_counted_as_the_parser_counts_them(pieces: list[tuple[str, str]]) -> None:
    text = "".join(line + end for line, end in pieces) + "marker = 1"
    (found,) = [
        node.lineno
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "marker"
    ]
    assert source_lines(text)[found - 1] == "marker = 1"


def compiled(*parts: str) -> CodeType:
    return compile(join_sources(parts), "<test>", "exec", dont_inherit=True)


FUTURES = {
    "alone": "from __future__ import annotations\n",
    "below a docstring": '"""Doc."""\nfrom __future__ import annotations\n',
    "below comments": "#!/usr/bin/env python\n# note\n\nfrom __future__ import annotations\n",
    "in brackets": "from __future__ import (\n    annotations,\n    division,\n)\n",
    "on one line with others": '"""é"""; from __future__ import annotations; import os\n',
    "behind another": "from __future__ import division\nfrom __future__ import annotations\n",
    "with Windows' line breaks": '"""Doc."""\r\nfrom __future__ import annotations\r\n',
    "behind a byte-order mark": "\ufefffrom __future__ import annotations\n",
    "under another name": "from __future__ import annotations as later\nassert later\n",
}
FUNCTION = "def f(x: Later) -> Later:\n    return x\nclass Later: pass\n"


@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize(
    "before",
    [
        "",
        "import os\n\ndef f(x):\n",
        "from __future__ import annotations\nimport os\ndef f(x):\n",
        '"""Doc."""\nfrom __future__ import generator_stop\nimport os\n',
    ],
)
def test_a_future_import_holds_wherever_its_text_begins(future: str, before: str) -> None:
    names: dict[str, Any] = {}
    exec(compiled(preamble(before), FUTURES[future] + FUNCTION), names)
    assert names["f"].__annotations__["x"] == "Later"


@given(pieces)
def test_a_future_import_is_lifted_over_anything(pieces: list[tuple[str, str]]) -> None:
    head = "".join(line + end for line, end in pieces if line.startswith("#"))
    compiled("import os", f"{head}from __future__ import annotations\nx = 1\n")


@pytest.mark.parametrize(
    "wrong",
    [
        "import os\nfrom __future__ import annotations\n",
        "from __future__ import no_such_feature\n",
        "def g():\n    from __future__ import annotations\n",
        "from __future__ import annotations\nx = (\n",
    ],
)
def test_what_is_wrong_by_itself_stays_wrong(wrong: str) -> None:
    with pytest.raises(SyntaxError):
        compiled("import os\n", wrong)


@pytest.mark.parametrize(
    "text", ["x = 'from __future__ import y'\n", "# __future__\nx = 1", "x = (", "\0__future__"]
)
def test_a_program_without_future_imports_stays_as_it_is(text: str) -> None:
    assert future_first(("import os", text)) == ["import os", text]


def test_a_signature_gets_a_body_and_what_is_whole_gets_none() -> None:
    assert preamble("import os\ndef f(x):\n") == "import os\ndef f(x):\n\n    pass"
    assert preamble("def f():") == "def f():\n    pass"
    for whole in ("", "import os\n", "def g():\n    return 1\n", "\n\n"):
        assert preamble(whole) == whole


@given(st.text())
def test_what_is_shown_steers_no_terminal(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert visible(shown) == shown
    if all(character.isprintable() for character in text):
        assert shown == text
