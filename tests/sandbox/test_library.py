"""The sandbox from Python, as its page shows it."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "sandbox.md"


def test_the_lines_of_the_page_run_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(list(filter(None, lines.splitlines()))) == 5
    exec(compile(lines, str(PAGE), "exec"), {})
    assert capsys.readouterr().out.startswith("result ('pass', '') 0.")
