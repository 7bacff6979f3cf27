"""The commands of the pages: all of them are right, and those that can run here do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codejoule.cli import build_parser
from codejoule.config.compose import compose_sweep
from codejoule.config.installation import conf_folder
from tests.docs.pages import PAGES, ROOT, blocks, name

_CONF = conf_folder()
_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
_SHELL = {
    "apt-get", "cat", "export", "llama/bin/pip", "llama/bin/python", "pip", "python", "source",
    "sudo", "vllm",
}  # fmt: skip
"""Other programs that pages call."""

_WITH_OVERRIDES = ("run", "plan", "estimate")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_is_one_that_there_is(page: Path) -> None:
    parser, _ = build_parser()
    for block in blocks(page, "bash"):
        for words in block.commands():
            if words[0] == "make":
                assert words[1] in _TARGETS, words
            elif words[0] == "codejoule" and words[1] != "run":
                parsed, more = parser.parse_known_args(words[1:])
                assert not more or hasattr(parsed, "overrides"), words
            else:
                assert words[0] in {*_SHELL, "codejoule"}, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_choice_and_key_of_a_page_is_one_that_there_is(page: Path) -> None:
    for words in _configurations(page):
        for word in words:
            key, _, value = word.strip("'").partition("=")
            if key.startswith(("hydra", "+hydra")):
                continue
            if "." in key:
                group, _, rest = key.partition(".")
                assert rest.split(".")[-1] in _keys(group), word
            elif (_CONF / (group := key.lstrip("+"))).is_dir():
                choices = re.sub(r"^choice\((.*)\)$", r"\1", value).split(",")
                for choice in choices:
                    there = (_CONF / group / f"{choice}.yaml").exists()
                    own = group == "model" and (choice in _made(page) or {"/", "."} & set(choice))
                    assert there or own, word
            else:
                assert key in _keys(""), word


def _made(page: Path) -> set[str]:
    """Names of the models that a page has ``codejoule new`` write files of."""
    commands = [words for block in blocks(page, "bash") for words in block.commands()]
    return {words[3] for words in commands if words[:3] == ["codejoule", "new", "model"]}


def _keys(group: str) -> set[str]:
    file = _CONF / "base" / f"{group}.yaml"
    text = (file if file.exists() else _CONF / "config.yaml").read_text(encoding="utf-8")
    return set(re.findall(r"^ *([a-z_0-9]+):", text, re.MULTILINE))


def _configurations(page: Path) -> list[list[str]]:
    """What each command of a page sets, Hydra's flags left out."""
    return [
        [word for word in words[2:] if "=" in word and not word.startswith("-")]
        for block in blocks(page, "bash")
        for words in block.commands()
        if words[0] == "codejoule" and words[1] in _WITH_OVERRIDES
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if _configurations(p)], ids=name)
def test_every_configuration_of_a_page_composes(
    page: Path, own_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEJOULE_SERVER_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.chdir(own_models)
    for words in _configurations(page):
        # Launchers and sweepers are plugins; what they are given to run is the configuration.
        given = [word for word in words if not word.strip("'+").startswith("hydra")]
        given = ["model=my-model.gguf" if word[6:] in _made(page) else word for word in given]
        for job in _jobs([word.replace("/data/", f"{own_models}/") for word in given]):
            assert len(compose_sweep(job)) >= 1


def _jobs(words: list[str]) -> Iterator[list[str]]:
    """As many jobs as bring each value of each list up once: not all combinations."""
    split = [word.strip("'").partition("=") for word in words]
    lists = [
        [value] if {"[", "{"} & set(value) else re.sub(r"choice\((.*)\)", r"\1", value).split(",")
        for _, _, value in split
    ]
    for number in range(max(map(len, lists), default=0)):
        yield [
            f"{key}={values[number % len(values)]}"
            for (key, _, _), values in zip(split, lists, strict=True)
        ]


@pytest.fixture(scope="module")
def own_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call /data: a folder with checkpoints, a GGUF file and tasks."""
    folder = tmp_path_factory.mktemp("data")
    bundled = ROOT / "src" / "codejoule" / "models" / "starter" / "none"
    for checkpoint in ("my-checkpoint", "checkpoints/my-model"):
        (folder / checkpoint).mkdir(parents=True)
        for file in bundled.glob("*.json"):
            (folder / checkpoint / file.name).write_bytes(file.read_bytes())
    (folder / "my-model.gguf").write_bytes(b"GGUF")
    (folder / "mine.jsonl").touch()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.runs for b in blocks(p, "bash", "python"))],
    ids=name,
)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """From top to bottom, in an empty folder, without the hub."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    for block in blocks(page, "bash", "python"):
        if not block.runs:
            continue
        shell = ["bash", "-ec"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*shell, block.text],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in block.exit_codes, (
            f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
