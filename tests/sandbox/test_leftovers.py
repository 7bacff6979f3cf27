"""A killed evaluation leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from .conftest import as_nobody

CODE = """
from codejoule.config.schema import EvaluatorConfig, EvaluatorIsolation
from codejoule.sandbox import Sandbox

config = EvaluatorConfig(isolation=EvaluatorIsolation.process, python={python!r})
Sandbox(config).run("open('mine', 'w').close()\\nwhile True: pass", "")
"""


def _wait_for(folder: Path, pattern: str, *, there: bool) -> bool:
    until_s = time.monotonic() + 20
    while bool(list(folder.glob(pattern))) is not there and time.monotonic() < until_s:
        time.sleep(0.02)
    return bool(list(folder.glob(pattern))) is there


def test_the_folder_of_a_process_that_is_killed_goes_with_its_program() -> None:
    python = as_nobody()
    if os.geteuid() == 0 and python is None:
        pytest.skip("user nobody can start no Python here")
    # Not pytest's own folder, which is closed to user nobody.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        environment = os.environ | {"TMPDIR": name}
        code = CODE.format(python=python)
        with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
            assert _wait_for(Path(name), "*/sample/sandbox-work/mine", there=True)
            process.kill()
        assert _wait_for(Path(name), "*", there=False)
