import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import SuiteConfig
from codejoule.domain import DOMAINS, join_sources, preamble
from codejoule.suites import load_suite, load_suite_named, sanitize

DATA = Path(__file__).parent / "data"
OWN = DATA / "bigcodebench.jsonl"
NAMES = (
    "bigcodebench", "bigcodebench_hard", "humaneval", "humaneval_plus", "mbpp", "mbpp_plus",
    "starter", "starter_large",
)  # fmt: skip


def load(path: Path, **settings: Any) -> Any:
    return load_suite(SuiteConfig(name="own", path=str(path), **settings))


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OWN.read_text().splitlines()]


def write(folder: Path, content: list[Any]) -> Path:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def test_a_row_becomes_a_task_unchanged() -> None:
    suite = load(OWN)
    first, row = suite.tasks[0], rows()[0]
    for column in ("task_id", "complete_prompt", "test", "code_prompt", "doc_struct"):
        assert getattr(first, column) == row[column]
    assert first.libs == ("math", "statistics")
    assert [task.domains for task in suite.tasks] == [
        ("Computation",), ("System", "Cryptography"), ("Time",)
    ]  # fmt: skip
    assert (suite.name, suite.source) == ("own", str(OWN))


def test_the_suites_limits_are_those_of_the_configuration() -> None:
    suite = load(OWN, max_new_tokens=7, timeout_s=3.0, stop=["a"], stop_base=["b"])
    assert (suite.max_new_tokens, suite.timeout_s) == (7, 3.0)
    assert (suite.stop, suite.stop_base) == (("a",), ("b",))


def test_json_lines_gzip_and_parquet_give_the_same_suite(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    zipped, parquet = tmp_path / "own.jsonl.gz", tmp_path / "own.parquet"
    zipped.write_bytes(gzip.compress(OWN.read_bytes()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()), parquet)
    expected = load(OWN)
    for path in (zipped, parquet):
        suite = load(path)
        assert (suite.tasks, suite.checksum) == (expected.tasks, expected.checksum)


def test_the_checksum_is_the_same_tomorrow() -> None:
    expected = "8a5aa640cc897fd04983687778b51879a8f47acbe82ca9bdb46246da5b86487c"
    assert load(OWN).checksum == expected


def test_the_checksum_is_of_what_was_selected() -> None:
    assert load(OWN, limit=2).checksum == load(OWN, task_ids=["Own/1", "Own/0"]).checksum
    assert load(OWN, limit=2).checksum != load(OWN).checksum


@pytest.mark.parametrize("column", ["complete_prompt", "test", "canonical_solution"])
def test_any_change_of_content_changes_the_checksum(tmp_path: Path, column: str) -> None:
    changed = rows()
    changed[1][column] += " "
    assert load(write(tmp_path, changed)).checksum != load(OWN).checksum


def test_libs_and_doc_struct_may_be_missing(tmp_path: Path) -> None:
    bare = [{k: v for k, v in row.items() if k not in ("libs", "doc_struct")} for row in rows()]
    task = load(write(tmp_path, bare)).tasks[1]
    assert (task.libs, task.doc_struct) == (("hashlib", "json"), "{}")


def test_task_ids_select_in_the_suites_order_and_limit_counts_among_them() -> None:
    suite = load(OWN, task_ids=["Own/12", "Own/0"])
    assert [task.task_id for task in suite.tasks] == ["Own/0", "Own/12"]
    assert len(load(OWN, task_ids=["Own/12", "Own/0"], limit=1).tasks) == 1


def test_an_unknown_task_is_named_with_its_near_matches() -> None:
    with pytest.raises(ConfigError) as caught:
        load(OWN, task_ids=["Own/0", "12", "own/1"])
    assert str(caught.value) == (
        "suite.task_ids: own has no task 12, own/1; did you mean Own/12, Own/1? "
        "It has 3 tasks, Own/0 to Own/12"
    )


def test_a_humaneval_row_becomes_a_task() -> None:
    task = load(DATA / "humaneval.jsonl", format="humaneval").tasks[0]
    assert task.code_prompt == "import math\n\n\n", "no stub answers for a missing function"
    header = "def hypotenuse(a: float, b: float) -> float:\n"
    assert task.instruct_prompt.endswith(f"{header}```")
    assert task.instruct_prompt.startswith("Length of the longest side")
    assert task.libs == ("math",)
    assert run_tests(task.code_prompt, task.complete_prompt + task.canonical_solution, task.test)
    assert not run_tests(task.code_prompt, "def hypotenuse(a, b):\n    return a", task.test)


def test_a_humaneval_helper_that_only_the_test_calls_is_there() -> None:
    task = load(DATA / "humaneval.jsonl", format="humaneval").tasks[1]
    solution = "def unpack(pairs):\n" + task.canonical_solution
    assert run_tests(task.code_prompt, solution, task.test)


def test_an_mbpp_row_becomes_a_task_with_one_test_per_assertion() -> None:
    first, second = load(DATA / "mbpp.jsonl", format="mbpp").tasks
    assert (first.task_id, first.entry_point) == ("Mbpp/2", "shared_values")
    assert second.entry_point == "circle_area"
    assert first.complete_prompt.splitlines()[:2] == [
        '"""', "Write a function to find the values that two tuples share."
    ]  # fmt: skip
    for task in (first, second):
        assert task.test.count("def test_case_") == 2
        solution = task.complete_prompt + "\n" + task.canonical_solution
        assert run_tests(task.code_prompt, solution, task.test)
        assert not run_tests(task.code_prompt, f"{task.entry_point} = lambda *a: [1]", task.test)


def run_tests(code_prompt: str, solution: str, test: str) -> bool:
    """The program as the evaluator assembles it, in a process of its own."""
    program = join_sources((preamble(code_prompt), solution, test, "unittest.main()"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    return done.returncode == 0 and b"Ran 0 tests" not in done.stderr


ODD = "a\x0cb\u2028c\x85d\x1ee"
"""Characters at which `str.splitlines` cuts and the parser does not."""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_odd_characters_in_a_prompt_shift_no_line(tmp_path: Path, end: str, mark: str) -> None:
    prompt = end.join(
        [f'{mark}"""{ODD}"""', "import math", f"def half(x):  # {ODD}", "    return x / 2",
         "@twice", "def f(x):", f'    """Twice. {ODD}"""', ""]
    )  # fmt: skip
    test = (
        f"def check(candidate):\n    assert candidate(1) == 2, '{ODD}'\n    assert half(2) == 1\n"
    )
    row = {
        "task_id": 7,
        "prompt": prompt,
        "canonical_solution": "    return 2 * half(x) * 2\n",
        "test": test,
        "entry_point": "f",
    }
    (task,) = load(write(tmp_path, [row]), format="humaneval").tasks
    assert task.code_prompt == end.join(prompt.removeprefix(mark).split(end)[:4]) + end
    assert f"def f(x):{end}```" in task.instruct_prompt
    assert (task.task_id, task.tested_names) == ("HumanEval/7", ("half",))
    solution = task.complete_prompt.replace("@twice", "") + task.canonical_solution
    assert run_tests(task.code_prompt, solution, task.test)


TREE = "class Node:\n    def __init__(self, left=None):\n        self.left = left\n\n"
HEIGHT = "def height(n):\n    return 0 if n is None else 1 + height(n.left)\n"
SAME = "def same(s):\n    return s\n"
MBPP: dict[str, tuple[str, dict[str, Any]]] = {
    "text in triple quotes": (
        SAME,
        {"test_list": ['assert same("""a\n  b""") == "a\\n  b"', "assert same('''\n''') == '\\n'"]},
    ),
    "text in an f-string of several lines": (
        SAME,
        {"test_list": ['assert same(f"""{1}\nb""") == "1\\nb"', "assert same('a\\\nb') == 'ab'"]},
    ),
    "statements of several lines": (
        SAME,
        {"test_list": ["x = [\n  same(1),\n]\nfor y in x:\n    assert y == 1"]},
    ),
    "an escape that no docstring takes": (
        SAME,
        {"test_list": ["assert same(r'\\x') == chr(92) + 'x'"]},
    ),
    "imports beside an empty set-up": (
        "def root2(x):\n    return x**0.5\n",
        {
            "test_list": ["assert math.isclose(root2(4), 2)"],
            "test_imports": ["import math"],
            "test_setup_code": "",
        },
    ),
    "imports and a set-up that has a future": (
        "def root2(x):\n    return x**0.5\n",
        {
            "test_list": ["assert math.isclose(root2(FOUR), 2)"],
            "test_imports": ["import math"],
            "test_setup_code": "from __future__ import annotations\nFOUR: Number = 4",
        },
    ),
    "a set-up that uses a class of the solution": (
        TREE + HEIGHT,
        {"test_list": ["assert height(root) == 2"], "test_setup_code": "root = Node(Node())"},
    ),
    "a test that uses a class of the solution": (
        TREE + HEIGHT,
        {"test_list": ["assert height(Node(Node())) == 2"]},
    ),
    "a test that uses an assignment of the solution": (
        'from collections import namedtuple\nNode = namedtuple("Node", "left")\n' + HEIGHT,
        {"test_list": ["assert height(Node(Node(None))) == 2"]},
    ),
    "tabs": (
        "def same(s):\n\tif s:\n\t\treturn s\n\treturn s\n\nprint(same(1))\n",
        {"test_list": ["assert same(1) == 1"]},
    ),
}


@pytest.mark.parametrize("name", MBPP)
def test_an_mbpp_task_is_solved_by_its_own_solution(tmp_path: Path, name: str) -> None:
    code, cells = MBPP[name]
    row = {"task_id": 2, "text": f"Write it. {ODD}", "code": code, **cells}
    (task,) = load(write(tmp_path, [row]), format="mbpp").tasks
    cut = sanitize(task.complete_prompt + code, task.entry_point, task.tested_names)
    for solution in (task.complete_prompt + code, cut):
        assert run_tests(task.code_prompt, solution, task.test)
    assert not run_tests(task.code_prompt, "x = 1", task.test)


@pytest.mark.parametrize("kind", ["mbpp", "humaneval"])
def test_a_missing_function_is_no_function_that_returns_none(tmp_path: Path, kind: str) -> None:
    row = {
        "task_id": 1,
        "text": "Do nothing.",
        "code": "def f(x):\n    pass",
        "test_list": ["assert f([1]) == None"],
    }
    if kind == "humaneval":
        row = {
            "task_id": 1,
            "prompt": "def f(x):\n",
            "canonical_solution": "    pass\n",
            "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(1) is None\n",
        }
    (task,) = load(write(tmp_path, [row]), format=kind).tasks
    assert run_tests(task.code_prompt, "def f(x):\n    pass", task.test)
    assert not run_tests(task.code_prompt, "import os\ndef g(x):\n    pass", task.test)


@pytest.mark.parametrize(
    ("kind", "benchmark"),
    [("bigcodebench", "BigCodeBench"), ("humaneval", "HumanEval"), ("mbpp", "Mbpp")],
)
def test_a_number_for_a_task_gets_its_benchmarks_name(
    tmp_path: Path, kind: str, benchmark: str
) -> None:
    row = json.loads((DATA / f"{kind}.jsonl").read_text().splitlines()[0])
    for given, name in ((11, f"{benchmark}/11"), (f"{benchmark}/3", f"{benchmark}/3"), ("x", "x")):
        (task,) = load(write(tmp_path, [row | {"task_id": given}]), format=kind).tasks
        assert task.task_id == name
    with pytest.raises(ConfigError, match=r"must be printable text or a whole number, not bool"):
        load(write(tmp_path, [row | {"task_id": True}]), format=kind)


def damaged(**cells: Any) -> list[dict[str, Any]]:
    content = rows()
    content[1] = {k: v for k, v in (content[1] | cells).items() if v is not ...}
    return content


FAULTS = {
    "a missing column": (damaged(test=...), ", line 2: column test missing; a row has task_id, "),
    "a cell of another type": (damaged(test=None), ", line 2: test must be text, not null"),
    "a number for a text": (damaged(test=3), ", line 2: test must be text, not int (3)"),
    "half a number for a task": (
        damaged(task_id=3.5),
        ", line 2: task_id must be printable text or a whole number, not float (3.5)",
    ),
    "a task whose name steers a terminal": (
        damaged(task_id="Own/\x1b[2J"),
        ", line 2: task_id must be printable text or a whole number, not str ('Own/\\x1b[2J')",
    ),
    "a task whose name forges a line": (
        damaged(task_id="Own/1\npass@1 1.0"),
        ", line 2: task_id must be printable text or a whole number, not str (",
    ),
    "libs of another kind": (
        damaged(libs="numpy"),
        ", line 2: libs must be a list of module names, not 'numpy'",
    ),
    "an entry point that is none": (
        damaged(entry_point="task func"),
        ", line 2: entry_point 'task func' is not the name of a function",
    ),
    "a task twice": (damaged(task_id="Own/0"), ", line 2: task_id Own/0 is not unique; "),
    "a list for a row": ([*rows()[:1], []], ", line 2: a row must be a JSON object, not a list"),
    "no rows": ([], ": the file has no rows; a suite needs at least 1 task"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_by_file_and_line(tmp_path: Path, fault: str) -> None:
    content, said = FAULTS[fault]
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"{path}{said}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"task_id": \n', "a.jsonl, line 1: not JSON: Expecting value at column 13"),
        ("a.jsonl", b'{"task_id": "\xff"}\n', "a.jsonl, line 1: not UTF-8 (byte 14 of the line)"),
        ("a.jsonl.gz", b"plain", "a.jsonl.gz: not a whole gzip file"),
        (
            "a.jsonl.gz",
            gzip.compress(b"x" * 9999, mtime=0)[:-9],
            "a.jsonl.gz: not a whole gzip file",
        ),
        ("a.parquet", b"plain", "a.parquet: not a readable Parquet file"),
        ("a.csv", b"task_id", "a.csv: unknown kind of file; a suite is read from .jsonl"),
        ("a.json", b'[{"task_id": 1}]', "a.json, line 1: a row must be a JSON object, not a list"),
        ("a.jsonl", b'{"test": 1, "test": 2}', "line 1: the key 'test' stands twice in one"),
        ("a.jsonl", b"", "a.jsonl: the file has no rows; a suite needs at least 1 task"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("encode", "name"),
    [
        (lambda text: b"\xef\xbb\xbf" + text, "a.jsonl"),
        (lambda text: text.replace(b"\n", b"\r\n"), "a.jsonl"),
        (lambda text: text, "a.json"),
        (gzip.compress, "a.json.gz"),
    ],
)
def test_a_suite_is_what_it_holds_whatever_its_marks_breaks_and_name(
    tmp_path: Path, encode: Any, name: str
) -> None:
    (tmp_path / name).write_bytes(encode(OWN.read_bytes()))
    assert load(tmp_path / name).tasks == load(OWN).tasks


def test_a_parquet_file_is_refused_by_what_it_unpacks_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    import pyarrow.parquet

    from codejoule.suites import rows as reader

    path = tmp_path / "a.parquet"
    # One value that all rows share is stored once: the file says that it is small.
    table = pyarrow.table({"task_id": range(64), "test": ["x" * 2**16] * 64})
    pyarrow.parquet.write_table(table, path)
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(reader, "MOST_BYTES", 2**20)
    with pytest.raises(ConfigError, match=r"a\.parquet: larger than 1 MiB"):
        reader.read_rows(path)
    monkeypatch.setattr(reader, "MOST_BYTES", 2**10)
    with pytest.raises(ConfigError, match=r"a\.parquet: larger than 0\.000976562 MiB"):
        reader.read_rows(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([["a"], ["b"], ["c"]], names=["task_id", "test", "test"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"two columns have one name, of task_id, test, test"):
        load(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_pipe_is_no_suite(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=r"a pipe or a device, not a file of tasks"):
        load_suite_named(str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"suite\.path=.*x\.jsonl: no such file"):
        load(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"prompt": "def f(:"}, "prompt does not parse"),
        ({"entry_point": "g"}, "prompt defines no function g, which entry_point names"),
    ],
)
def test_a_faulty_humaneval_row_is_refused(
    tmp_path: Path, cells: dict[str, str], said: str
) -> None:
    row = json.loads((DATA / "humaneval.jsonl").read_text().splitlines()[0]) | cells
    with pytest.raises(ConfigError, match=f"line 1: {said}"):
        load(write(tmp_path, [row]), format="humaneval")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"test_list": "assert 1"}, "test_list must be a list of texts"),
        ({"test_list": ["assert g() == 1"]}, "no assertion in test_list calls a function that"),
        ({"code": "def f(:"}, "code or test_list does not parse"),
        ({"prompt": ...}, "column prompt missing"),
    ],
)
def test_a_faulty_mbpp_row_is_refused(tmp_path: Path, cells: dict[str, Any], said: str) -> None:
    row = json.loads((DATA / "mbpp.jsonl").read_text().splitlines()[0]) | cells
    row = {k: v for k, v in row.items() if v is not ...}
    with pytest.raises(ConfigError, match=f"line 1: {said}"):
        load(write(tmp_path, [row]), format="mbpp")


def test_an_unknown_format_lists_the_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        load(OWN, format="apps")
    assert str(caught.value) == (
        "suite.format=apps: no such format; choose one of bigcodebench, humaneval, "
        "humaneval_plus, mbpp, mbpp_plus"
    )


def test_another_suite_is_one_module_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codejoule.suites import formats, load

    (tmp_path / "plain.py").write_text(
        "from codejoule.domain import Task\n"
        "COLUMNS = ('name', 'asked')\n"
        "def convert(row):\n"
        "    return Task(task_id=row.text('name'), complete_prompt=row.text('asked'),\n"
        "        instruct_prompt='', canonical_solution='', code_prompt='', test='',\n"
        "        entry_point='f', doc_struct='{}', libs=(), domains=())\n"
    )
    tasks = write(tmp_path, [{"name": "P/1", "asked": "def f():\n"}])
    folder = tmp_path / "conf" / "suite"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        f"defaults:\n  - /schema/suite@_here_\n  - _self_\n"
        f"name: mine\nformat: plain\npath: {tasks}\ntimeout_s: 7\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    monkeypatch.setattr(load, "conf_folders", lambda: [tmp_path / "conf"])
    suite = load_suite_named("mine")
    assert (suite.name, suite.timeout_s) == ("mine", 7)
    assert [task.complete_prompt for task in suite.tasks] == ["def f():\n"]
    assert load_suite_named(str(tasks)).tasks == suite.tasks, "known by its columns, too"
    with pytest.raises(
        ConfigError, match="bigcodebench, humaneval, humaneval_plus, mbpp, mbpp_plus, plain"
    ):
        load_suite(SuiteConfig(name="own", format="apps", path=str(tasks)))


def test_a_suite_without_a_source_says_what_to_set() -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite(SuiteConfig(name="mine"))
    assert "suite.name=mine: no tasks to load; set suite.path or suite.hub_id, or " in str(
        caught.value
    )


def test_a_hub_id_without_a_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"suite\.hub_file=null: which file of a/b holds"):
        load_suite(SuiteConfig(name="mine", hub_id="a/b"))


@pytest.mark.parametrize("name", ["starter", "starter_large"])
def test_bundled_suites_load_at_once(name: str) -> None:
    load_suite_named("starter")
    started = time.perf_counter()
    suite = load_suite_named(name)
    # 15 and 60 ms on an idle core; tests share theirs.
    assert time.perf_counter() - started < 1.0
    assert suite.source == f"bundled:{name}"
    assert {domain for task in suite.tasks for domain in task.domains} == set(DOMAINS)


def test_loading_json_lines_imports_neither_torch_nor_pandas_nor_pyarrow() -> None:
    code = (
        "import sys; from codejoule.suites import load_suite_named; load_suite_named('starter')\n"
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    "kind",
    [
        "bigcodebench", "humaneval", "humaneval_plus", "humaneval_plus_hub", "mbpp", "mbpp_plus",
        "mbpp_plus_hub",
    ],
)  # fmt: skip
def test_a_file_of_tasks_is_known_by_its_columns(kind: str) -> None:
    suite = load_suite_named(str(DATA / f"{kind}.jsonl"))
    assert suite.name == kind
    schema = kind.removesuffix("_hub")
    assert suite.tasks == load(DATA / f"{kind}.jsonl", format=schema).tasks


def test_a_name_that_is_no_suite_lists_the_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite_named("humanevil")
    assert str(caught.value) == (
        "suite humanevil: neither a suite nor a file; did you mean humaneval? choose one of "
        + ", ".join(NAMES)
        + ", or name a .jsonl, .jsonl.gz or .parquet file"
    )
