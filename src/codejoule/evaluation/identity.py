"""What a verdict depends on: the program, its tests, the limits, and what runs them."""

import dataclasses
import hashlib
import json
import os
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from codejoule.config.schema import EvaluatorConfig
from codejoule.evaluation.sample import Sample
from codejoule.sandbox import describe_interpreter
from codejoule.sandbox.interpreter import ask_python
from codejoule.sandbox.layout import data_paths

_QUESTION = (
    "import importlib.metadata as m, json; "
    "print(json.dumps(sorted({(d.metadata['Name'] or '', d.version or '') "
    "for d in m.distributions()})))"
)
_NOT_OF_THE_VERDICT = ("name", "workers", "python", "timeout_s", "ground_truth")
"""Settings that change no verdict, or stand in an identity by what they mean."""


def setting_identity(config: EvaluatorConfig, *, timeout_s: float) -> str:
    """Hash (hex) of everything but the sample: the interpreter and its packages and data, the
    limits, how samples are isolated, and the code of this room.

    Raises ConfigError where ``config.python`` does not work.
    """
    limits = {
        field.name: value.value if isinstance(value, Enum) else value
        for field in dataclasses.fields(config)
        if field.name not in _NOT_OF_THE_VERDICT
        for value in [getattr(config, field.name)]
    }
    # Of the machine's memory no sample gets all.
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits |= {"timeout_s": timeout_s, "machine_memory_bytes": machine_bytes}
    return _hash({"environment": environment_facts(config), "limits": limits})


def environment_facts(config: EvaluatorConfig) -> dict[str, Any]:
    """What runs the samples: version of Python, packages, data of NLTK, code of this room."""
    interpreter = describe_interpreter(config.python)
    return {
        "python": ".".join(map(str, interpreter.version)),
        "packages": _packages(interpreter.executable),
        "nltk_data": _nltk_data(interpreter.prefixes, tuple(data_paths())),
        "sandbox": _code(),
        "machine": os.uname().machine,
    }


def sample_identity(setting: str, sample: Sample) -> str:
    """Hash (hex) of one sample under the setting of that identity. Its number counts, for it
    seeds its random numbers."""
    tests = [sample.test, sample.plus_test, sample.reference]
    return _hash([setting, sample.task_id, sample.sample, sample.program, *tests])


def _hash(content: Any) -> str:
    # Programs may hold lone surrogates, which only this form of JSON can write.
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


@cache
def _packages(executable: str) -> dict[str, str]:
    problem, fix = "does not tell its packages", "its importlib.metadata must work"
    return dict(ask_python(executable, _QUESTION, problem=problem, fix=fix))


@cache
def _nltk_data(prefixes: tuple[str, ...], named: tuple[str, ...]) -> list[str]:
    """Names and sizes of the files of NLTK's data beside the interpreter, or where named."""
    folders = [*(Path(prefix) / "nltk_data" for prefix in prefixes), *map(Path, named)]
    return sorted(
        f"{file.relative_to(folder)} {file.stat().st_size}"
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file()
    )


@cache
def _code() -> str:
    """Hash of what judges: the modules of this room and of the sandbox."""
    rooms = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted([*rooms.glob("evaluation/*.py"), *rooms.glob("sandbox/**/*.py")]):
        digest.update(f"{file.relative_to(rooms)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
