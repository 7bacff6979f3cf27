"""Which text is Python 3.11 (on 3.11 that holds by itself, later `grammar` sees to it), and the
names of a program."""

import pytest

from codejoule.suites.grammar import bound_names, parse, unbound_names

NEWER = [
    "y = f'{x['k']}'",
    'y = f"""{x + """a"""}"""',
    "y = f\"{'\\n'.join(x)}\"",
    "y = f'''{x # c\n}'''",
    "y = f'{\nx\n}'",
    "y = f'''{f'{d['k']}'}'''",
    "type X = int",
    "def f[T](x: T): pass",
]
OLDER = [
    "y = f\"{x['k']}\\n{{}} {x!r:>{w}} {x:\\n}\"",
    "y = f'''{d[\"k\"]}\n{\n x}'''",
    "y = rf'\\d{x}' f\"{'#'}\" 'it\\'s' f'{x=}'",
    'y = f\'\' + F""""""',
    "try:\n    pass\nexcept* E:\n    pass",
]


@pytest.mark.parametrize("text", NEWER)
def test_what_only_later_pythons_read_is_refused(text: str) -> None:
    with pytest.raises(SyntaxError) as caught:
        parse("z = 0\n" + text)
    assert caught.value.lineno is not None


@pytest.mark.parametrize("text", OLDER)
def test_what_python_3_11_reads_is_read(text: str) -> None:
    parse(text)


def test_invalid_escapes_warn_nobody(recwarn: pytest.WarningsRecorder) -> None:
    parse("y = f'\\d{x}\\{y}'")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("def f(x):\n    return g(x)", {"g"}),
        ("def f(x):\n    return np.sum(x)", {"np"}),
        ("import numpy as np\ndef f(x):\n    return np.sum(x)", set()),
        ("import os.path\ndef f(x):\n    return os.path.join(x)", set()),
        ("from math import *\ndef f(x):\n    return sqrt(x)", {"sqrt"}),
        ("def f(x: List[int]) -> Dict:\n    y = [z for z in x if z]\n    return y", {"List", "Dict"}),
        ("def f(x=DEFAULT):\n    return len(x)", {"DEFAULT"}),
        ("def f():\n    global n\n    n = 1\ndef g():\n    return n", set()),
        ("class A(B):\n    c = 1\n    d = c\n    def m(self):\n        return super().m(), self.c", {"B"}),
        ("def f():\n    def inner():\n        return y\n    y = helper\n    return inner", {"helper"}),
        ("try:\n    f()\nexcept E as e:\n    e", {"f", "E"}),
        ("with open(__file__) as h:\n    print(h, __name__)", set()),
        ("f = lambda a, *b, **c: (a, b, c, d)", {"d"}),
        ("async def f(x):\n    async for y in x:\n        await z(y)", {"z"}),
    ],
)  # fmt: skip
def test_names_that_nothing_binds_are_found(program: str, names: set[str]) -> None:
    assert unbound_names(program) == names


def test_every_way_to_bind_a_name_counts() -> None:
    program = (
        "import a.b, c as d\nfrom e import f\ng = h, i = 1, 2\nfor j in k:\n    pass\n"
        "def l(m):\n    n = 1\n    global o\n    o = 2\nclass p: q = 1\n"
        "with r as s:\n    (t := 1)\nv: int = 1"
    )
    assert bound_names(program) == set("adfghijlopstv")
