"""A terminal on which a sweep runs is never silent for long."""

import os
import pty
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.experiment.job import clean_env, main

LONGEST_S = 5.0


def record(command: Sequence[str], env: dict[str, str]) -> tuple[list[tuple[float, str]], int]:
    """What a command writes to a terminal, each part with its moment [s], and its exit code. The
    last part is empty: the command's end."""
    began_s, parts = time.monotonic(), [(0.0, "")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], list(command), env)
    while True:
        try:
            text = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that nobody has the other end any more
            text = b""
        parts.append((time.monotonic() - began_s, text.decode(errors="replace")))
        if not text:
            break
    os.close(terminal)
    return parts, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def longest_silence_s(parts: Sequence[tuple[float, str]]) -> float:
    """The longest time in which the terminal showed nothing new [s]: a line drawn anew as it was
    does not count."""
    moments, shown = [parts[0][0]], ""
    for moment_s, text in parts[1:]:
        last = text.rpartition("\r\x1b[K")[2]
        if last != shown or moment_s == parts[-1][0]:
            moments.append(moment_s)
            shown = last
    return max(after - before for before, after in pairwise(moments))


def test_a_line_that_does_not_change_is_silence() -> None:
    line = "\r\x1b[Kloading | 0:0{}"
    parts = [(0.0, ""), (1.0, line.format(0)), (2.0, line.format(1)), (3.0, line.format(1)),
             (6.0, line.format(2)), (6.5, "")]  # fmt: skip
    assert longest_silence_s(parts) == 4.0


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_no_five_seconds_of_a_sweep_pass_in_silence(tmp_path: Path, isolation: str) -> None:
    overrides = ["-m", "model=starter", "quant=none,gptq8", "batch=b1,b8", "quant.source=local",
                 f"quant.cache_dir={tmp_path}/quantized", f"isolation={isolation}"]  # fmt: skip
    command = [sys.executable, *main(tmp_path, *overrides)]
    parts, code = record(command, clean_env() | {"TERM": "xterm"})
    said = "".join(text for _, text in parts)
    assert code == 0, said
    for words in ("quantizing to gptq8: 2 of", "loading starter", "judging samples", "4/4 starter"):
        assert words in said
    assert longest_silence_s(parts) < LONGEST_S
    if keep := os.environ.get("CODEJOULE_RECORDING"):
        Path(keep).write_text("".join(f"{at_s:8.2f} {text!r}\n" for at_s, text in parts))
