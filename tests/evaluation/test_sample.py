"""What is known of tests without running them."""

from codejoule.evaluation.sample import expected_test_ids, modules_worth_importing


def test_ids_come_from_the_class_and_its_bases_in_the_same_source() -> None:
    source = (
        "import unittest\n"
        "class Base(unittest.TestCase):\n"
        "    def test_base(self): pass\n"
        "class Other(unittest.TestCase):\n"
        "    def test_other(self): pass\n"
        "class TestCases(Base):\n"
        "    def test_a(self): pass\n"
        "    def test_a(self): pass\n"
        "    async def test_b(self): pass\n"
        "    if True:\n"
        "        def test_c(self): pass\n"
        "    else:\n"
        "        def test_d(self): pass\n"
        "    def helper(self):\n"
        "        def test_inner(): pass\n"
        "    class Inner:\n"
        "        def test_inner(self): pass\n"
    )
    expected = {"test_base", "test_a", "test_b", "test_c", "test_d"}
    assert expected_test_ids(source) == expected


def test_no_ids_where_there_is_no_class_or_no_syntax() -> None:
    assert expected_test_ids("def test_a(): pass") == frozenset()
    assert expected_test_ids("class TestCases(") == frozenset()
    assert expected_test_ids("class TestCases(TestCases): pass") == frozenset()


def test_modules_are_imported_once_where_that_is_safe_and_worth_it() -> None:
    sources = [
        "import json, numpy as np\nimport turtle",
        "import json\nfrom matplotlib.pyplot import plot\nimport requests\nfrom . import json",
        "import antigravity\nimport torch\nimport (",
    ]
    assert modules_worth_importing(sources) == ["json", "matplotlib.pyplot", "numpy"]
