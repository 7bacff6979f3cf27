"""Each how-to page, followed to the letter in a copy of the project, and what came of it."""

import json
import os
import re
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "howto"
_BLOCK = re.compile(
    r"^(?P<indent> *)`(?P<path>[^`]+)`(?:, (?P<how>after|in place of) `(?P<line>[^`]+)`)?:\n"
    r" *```\w+\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Copy:
    """A copy of the project in which a page was followed."""

    root: Path
    touched: set[str]

    def python(self, program: str, *args: str) -> str:
        """What the file `program` prints there; it must succeed."""
        env = os.environ | {"PYTHONPATH": str(self.root / "src"), "HF_HUB_OFFLINE": "1"}
        job = warm.start([str(self.root / program), *args], env=env, copy=self.root)
        done = job.completed(timeout=200)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def script(self, text: str, *args: str) -> str:
        """What a program of that text prints there."""
        (self.root / "script.py").write_text(text, encoding="utf-8")
        return self.python("script.py", *args)

    def command(self, *args: str) -> str:
        """What ``codejoule ARGS`` prints there."""
        return self.script("from codejoule.cli import main; raise SystemExit(main())", *args)

    def run(self, *overrides: str) -> str:
        """What a job prints there, with a store of its own."""
        return self.python("src/main.py", f"tracking.dir={self.root / 'mlruns'}", *overrides)


def _link(source: str, target: str) -> None:
    """A hard link, which costs nothing; what is written later takes the name alone."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@pytest.fixture
def followed(tmp_path: Path, with_database: Callable[[Path], Path]) -> Callable[[str], Copy]:
    def follow(page: str) -> Copy:
        with_database(tmp_path)
        # Files that are linked are as old as their bytecode says, and need not be compiled again.
        ignored = shutil.ignore_patterns("*.egg-info")
        for name in ("src", "conf"):
            shutil.copytree(ROOT / name, tmp_path / name, copy_function=_link, ignore=ignored)
        text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
        blocks = list(_BLOCK.finditer(text))
        assert len(blocks) == sum("```" in line for line in text.splitlines()) // 2
        for block in blocks:
            _write(tmp_path / block["path"], block)
        return Copy(root=tmp_path, touched={block["path"] for block in blocks})

    return follow


def _write(path: Path, block: re.Match[str]) -> None:
    text = "\n".join(
        line.removeprefix(block["indent"]) for line in block["text"].splitlines()
    )  # the page's indentation alone: the lines have one of their own
    if block["how"] is None:
        assert not path.exists(), f"{path} is there already"
        path.write_text(text + "\n", encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    (number,) = (n for n, line in enumerate(lines) if line == block["line"])
    kept = number if block["how"] == "in place of" else number + 1
    path.unlink()
    path.write_text("\n".join([*lines[:kept], text, *lines[number + 1 :]]) + "\n", encoding="utf-8")


def _jsonl(path: Path, *rows: dict[str, str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_model_of_a_known_family_is_one_file(followed: Callable[[str], Copy]) -> None:
    copy = followed("model")
    assert len(copy.touched) == 1
    found = json.loads(copy.command("estimate", "model=smollm2_135m", "gpu=h200", "--json"))
    # What the hub's model card and its checkpoint have.
    assert "134515008" in json.dumps(found)


def test_a_suite_is_one_file(followed: Callable[[str], Copy]) -> None:
    copy = followed("suite")
    assert len(copy.touched) == 1
    row = {
        "task_id": "Mine/0",
        "prompt": 'def double(x):\n    """Twice x."""\n',
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "double",
    }
    _jsonl(copy.root / "mine.jsonl", row)
    assert "1 of 1 canonical" in copy.command("evaluate", "--suite", "mine", "--ground-truth")


def test_a_format_is_at_most_two_files(followed: Callable[[str], Copy]) -> None:
    copy = followed("format")
    assert len(copy.touched) <= 2
    row = {
        "task_id": "Asserts/0",
        "prompt": "def double(x):\n",
        "solution": "    return 2 * x\n",
        "asserts": "assert double(2) == 4",
        "function": "double",
    }
    wrong = row | {"task_id": "Asserts/1", "solution": "    return x\n"}
    _jsonl(copy.root / "rows.jsonl", row, wrong)
    told = copy.command("evaluate", "--suite", "rows.jsonl", "--ground-truth")
    assert "1 of 2 canonical" in told


@pytest.mark.slow
def test_a_family_is_at_most_four_files(followed: Callable[[str], Copy]) -> None:
    copy = followed("family")
    assert len(copy.touched) <= 4
    fields = {
        "model_type": "mistral", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 2048, "sliding_window": None, "tie_word_embeddings": False,
    }  # fmt: skip
    check = f"""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
        from codejoule.domain import Architecture
        from codejoule.estimate import count_parameters
        fields = {fields!r}
        counted = count_parameters(Architecture.from_config(fields)).total
        config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert counted == sum(p.numel() for p in model.parameters())
    """
    copy.script(textwrap.dedent(check))
    given = ",".join(f"{key}: {json.dumps(value)}" for key, value in fields.items())
    told = copy.run(
        "model=starter", "model.name=tiny", "model.weights=random", f"++model.architecture={{{given}}}",
        "suite.limit=2", "generation.max_new_tokens=4", "engine=graph", "evaluator=none",
    )  # fmt: skip
    assert "tiny" in told


@pytest.mark.slow
def test_a_quantization_is_at_most_three_files(followed: Callable[[str], Copy]) -> None:
    copy = followed("quantization")
    assert len(copy.touched) <= 3
    told = copy.run("quant=float8", "suite.limit=2", "evaluator=none")
    assert "starter" in told and "float8" in told
    weights = json.loads(copy.command("estimate", "quant=float8", "gpu=h200", "--json"))
    assert weights["weights"]


@pytest.mark.slow
def test_an_engine_is_at_most_three_files(followed: Callable[[str], Copy]) -> None:
    copy = followed("engine")
    assert len(copy.touched) <= 3
    copy.run("engine=lookup", "suite.limit=2", "evaluator=none")
    recorded = list((copy.root / "mlruns").rglob("engine.json"))
    assert recorded
    for file in recorded:
        assert json.loads(file.read_text(encoding="utf-8"))["proposed_tokens"] == 4


@pytest.mark.slow
def test_a_statistic_is_at_most_three_files(followed: Callable[[str], Copy]) -> None:
    copy = followed("statistic")
    assert len(copy.touched) <= 3
    copy.run("suite.limit=5", "evaluator=none")
    store = f"sqlite:///{copy.root / 'mlruns' / 'mlflow.db'}"
    copy.command("analyze", "--tracking-uri", store, "--out", str(copy.root / "out"))
    (table,) = (copy.root / "out").rglob("spread.csv")
    header, row = table.read_text(encoding="utf-8").splitlines()
    assert header.endswith("tasks,gini")
    assert 0 < float(row.rpartition(",")[2]) < 1


def test_every_page_has_a_test_and_fits_a_screen() -> None:
    tested = set(re.findall(r'followed\("(\w+)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert tested == {page.stem for page in PAGES.glob("*.md")}
    for page in PAGES.glob("*.md"):
        assert len(page.read_text(encoding="utf-8").splitlines()) <= 80, page.name
