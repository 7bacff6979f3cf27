"""Promises about start-up and layering that no other test would notice breaking."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--help"], ["--info", "config"]])
def test_help_and_config_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import runpy, sys, atexit\n"
        "heavy = ('torch', 'transformers', 'mlflow', 'scipy', 'pandas', 'zeus', 'gptqmodel')\n"
        "atexit.register(lambda: print('HEAVY', [m for m in heavy if m in sys.modules]))\n"
        f"sys.argv = ['main.py', *{arguments!r}]\n"
        f"runpy.run_path({str(ROOT / 'src' / 'main.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ([str(ROOT / "src" / "main.py")], "main.py quant=gptq"),
        (["-m", "codejoule"], "codejoule run quant=gptq"),
    ],
)
def test_shell_completion_knows_the_groups_and_choices(command: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, *command, "-sc", "query=bash"],
        capture_output=True, text=True, check=False,
        env={"COMP_LINE": line, "COMP_POINT": str(len(line)), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= {"quant=gptq4", "quant=gptq8"}


@pytest.mark.parametrize(
    "room", ["suites", "models", "generation", "measurement", "evaluation", "tracking"]
)
def test_a_room_is_cheap_to_import(room: str) -> None:
    code = (
        f"import sys, codejoule.{room}\n"
        "print([m for m in ('torch', 'transformers', 'mlflow', 'scipy', 'zeus') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
