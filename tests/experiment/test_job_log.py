"""Where the chatter of libraries goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codejoule.experiment.job_log import output_in


def test_all_that_is_written_inside_goes_into_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own do not write to the process' standard output and error.
    for name, number in (("sys.stdout", 1), ("sys.stderr", 2)):
        monkeypatch.setattr(name, os.fdopen(number, "w", closefd=False))
    file = tmp_path / "main.log"
    file.write_text("a line of logging\n")
    print("before")
    with output_in(file):
        print("of Python")
        print("of Python, too", file=sys.stderr)
        sys.stdout.flush()
        os.write(2, b"of a library in C\n")
        subprocess.run(["echo", "of a child"], check=True)
    print("after", flush=True)
    assert capfd.readouterr() == ("before\nafter\n", "")
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted(
        ["a line of logging", "of Python", "of Python, too", "of a library in C", "of a child"]
    )


def test_where_no_file_can_be_opened_nothing_changes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in (None, tmp_path / "no folder" / "main.log"):
        with output_in(file):
            print("hello")
    assert capfd.readouterr().out == "hello\nhello\n"
