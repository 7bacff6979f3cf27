"""The evaluation environment: found by its lock, and only where tasks need it."""

import logging
import re
from pathlib import Path

import pytest

from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Task, imported_modules
from codejoule.evaluation import environment_name, with_python
from codejoule.evaluation.environment import VERSIONS, environment_of

CONFIG = EvaluatorConfig()


def _task(code_prompt: str, test: str = "import unittest\n") -> Task:
    return Task(
        task_id="t/1", complete_prompt="", instruct_prompt="", canonical_solution="",
        code_prompt=code_prompt, test=test, entry_point="f", libs=(), domains=(), doc_struct="",
    )  # fmt: skip


STANDARD = [_task("import json\nfrom os import path\ndef f(x):\n")]
FOREIGN = [_task("import json\nimport no_such_library.part as part\ndef f(x):\n")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("codejoule.common.environments.environments", lambda: tmp_path)
    return tmp_path


def _build(version: str) -> Path:
    folder = environment_of(version).folder
    (folder / "bin").mkdir(parents=True)
    (folder / "codejoule.json").write_text("{}")
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lock_is_names_and_versions_only(version: str) -> None:
    lines = environment_of(version).lock.read_text().splitlines()
    assert len(lines) > 100
    assert [one for one in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", one)] == []
    names = {line.partition("==")[0] for line in lines}
    assert {"pandas", "numpy", "nltk", "keras", "setuptools", "scikit-learn"} <= names


def test_tasks_beyond_the_standard_library_get_the_environment(project: Path) -> None:
    folder = _build("3.11")
    assert with_python(CONFIG, FOREIGN).python == str(folder / "bin" / "python")
    assert with_python(CONFIG, STANDARD).python is None
    named = EvaluatorConfig(python="/usr/bin/python3")
    assert with_python(named, FOREIGN).python == "/usr/bin/python3"


def test_an_environment_is_used_only_once_it_is_complete(project: Path) -> None:
    older = _build("3.10")
    newer = environment_of("3.11").folder
    (newer / "bin").mkdir(parents=True)
    assert with_python(CONFIG, FOREIGN).python == str(older / "bin" / "python")
    (newer / "codejoule.json").write_text("{}")
    assert with_python(CONFIG, FOREIGN).python == str(newer / "bin" / "python")


def test_modules_that_are_missing_are_named_with_the_remedy(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert with_python(CONFIG, STANDARD).python is None
        assert caplog.text == ""
        assert with_python(CONFIG, FOREIGN).python is None
    assert "no_such_library" in caplog.text
    assert "codejoule env bigcodebench" in caplog.text


def test_a_record_names_our_environment_wherever_it_lies(project: Path) -> None:
    folder = _build("3.11")
    assert environment_name(str(folder / "bin" / "python")) == folder.name
    assert environment_name("/usr/bin/python3") == "/usr/bin/python3"


def test_imports_of_a_signature_without_a_body_are_seen() -> None:
    assert imported_modules("import a.b\nfrom c.d import e\ndef f(x):\n") == ("a.b", "c.d")
    assert imported_modules("def (") == ()
