"""What work tells of itself, in this process or another."""

import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import count

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


def _relayed(read: int) -> Notes:
    with os.fdopen(read, "rb") as lines, told_to(notes := Notes()):
        for line in lines:
            relay(line)
    return notes


def test_work_does_not_wait_for_a_reader_and_no_line_that_stays_is_lost() -> None:
    read, write = os.pipe()
    pipe = Pipe(write, clock=count().__next__)
    for token in range(5000):  # more than a pipe holds
        pipe.doing("generating", f"{token} tokens")
    said = ["a kernel is slow", "x" * 100_000]
    for text in said:
        pipe.say(text)
    pipe.doing("generating", "left out")
    with ThreadPoolExecutor() as pool:
        notes = pool.submit(_relayed, read)
        pipe.close()
        os.close(write)
    assert notes.result().said == said
    assert notes.result().done[0] == "generating: 0 tokens"
    assert 1000 < len(notes.result().done) < 5000


def test_long_lines_of_several_threads_do_not_mix() -> None:
    read, write = os.pipe()
    pipe = Pipe(write)
    with ThreadPoolExecutor() as pool:
        notes = pool.submit(_relayed, read)
        list(pool.map(lambda letter: [pipe.say(letter * 9000) for _ in range(20)], "abc"))
        pipe.close()
        os.close(write)
    assert sorted(notes.result().said) == [letter * 9000 for letter in "abc" for _ in range(20)]


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
