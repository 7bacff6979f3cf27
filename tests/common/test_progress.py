"""What work tells of itself, in this process or another."""

import io
import logging
import os

import pytest

from codejoule.common.progress import Messages, Pipe, doing, pause, relay, say, told_to
from tests.common.watcher import Notes


def test_the_innermost_watcher_is_told_and_nobody_need_be_there() -> None:
    outer, inner = Notes(), Notes()
    doing("nothing"), say("nothing"), pause()
    with told_to(outer):
        with told_to(inner):
            doing("loading", "starter")
        say("loaded")
    assert (inner.done, outer.said) == (["loading: starter"], ["loaded"])


def test_a_pipe_passes_all_on_but_no_flood(caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    now_s = 0.0
    pipe = Pipe(write, clock=lambda: now_s)
    logger = logging.getLogger("codejoule.of_the_child")
    logger.addHandler(pipe)
    logger.propagate = False
    with told_to(pipe):
        for token in range(1000):
            doing("generating", f"{token} tokens")
        now_s = 1.0
        doing("generating", "1000 tokens")
        say("a line\nor two")
        logger.warning("%d kernels are slow", 2)
    logger.removeHandler(pipe)
    logger.propagate = True
    os.close(write)
    notes = Notes()
    with os.fdopen(read, "rb") as lines, told_to(notes):
        for line in lines:
            relay(line)
    assert notes.done == ["generating: 0 tokens", "generating: 1000 tokens"]
    assert notes.said == ["a line\nor two"]
    assert caplog.record_tuples == [
        ("codejoule.of_the_child", logging.WARNING, "2 kernels are slow")
    ]


def test_a_pipe_that_nobody_reads_ends_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    Pipe(write).say("hello")
    os.close(write)


def test_of_all_loggers_only_our_own_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes, messages = Notes(), Messages()
    with told_to(notes):
        for name in ("codejoule.models", "bitsandbytes.cpu", "hydra.launcher", "jax", "codejoules"):
            messages.emit(logging.makeLogRecord({"name": name, "levelno": 30, "msg": name,
                                                 "levelname": "WARNING"}))  # fmt: skip
        messages.emit(logging.makeLogRecord({"name": "codejoule", "levelno": 20, "msg": "info"}))
    assert notes.said == ["warning: codejoule.models", "info"]
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    messages.emit(logging.makeLogRecord({"name": "codejoule", "levelno": 20, "msg": "unseen"}))
    assert stream.getvalue() == "unseen\n", "a message is never lost"
