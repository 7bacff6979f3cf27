from codejoule.domain import DOMAINS
from codejoule.suites import domains_of
from codejoule.suites.domains import top_modules


def test_each_domain_is_known_by_an_import() -> None:
    source = "import numpy, re, matplotlib.pyplot as plt, os, time, requests, hashlib"
    assert domains_of(source) == DOMAINS


def test_imports_count_wherever_they_stand() -> None:
    source = "def f():\n    from urllib.parse import quote\n    return quote"
    assert domains_of(source) == ("Network",)


def test_words_that_contain_a_modules_name_are_no_import() -> None:
    source = "def function(time):\n    '''import re'''\n    return time"
    assert domains_of(source) == ()


def test_relative_imports_and_unknown_modules_belong_nowhere() -> None:
    assert domains_of("from .json import x\nimport unheard_of") == ()


def test_text_that_does_not_parse_is_read_by_its_import_lines() -> None:
    source = "import json\nfrom math import (\nimport csv, io\ndef f(:"
    assert top_modules(source) == ("json", "csv", "io")


def test_a_module_is_named_once_and_by_its_top_level() -> None:
    assert top_modules("import os.path\nimport os\nfrom xml.etree import a") == ("os", "xml")
