"""Processes forked from one that has imported their libraries."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest

from codejoule.common.fork_server import Fork, ForkServer, ForkServerError

PROGRAM = Path(__file__).with_name("fork_program.py")
NAME = "CODEJOULE_TEST_VARIABLE"


def make(*arguments: str) -> ForkServer:
    env = {**os.environ, NAME: "the user's"}
    return ForkServer([str(PROGRAM), *arguments], env=env, while_importing={NAME: "the server's"})


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = make()
    yield made
    made.close()


def sleeping(server: ForkServer, note: Path) -> Fork:
    """A fork that has begun to sleep."""
    fork = server.fork({"name": NAME, "sleep": str(note)})
    until(lambda: note.exists() and note.read_text() == str(fork.pid))
    return fork


def until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def told(server: ForkServer) -> list[str]:
    read, write = os.pipe()
    fork = server.fork({"name": NAME}, files=[write])
    os.close(write)
    with FileIO(read) as stream:
        said = stream.readall().decode().splitlines()
    assert fork.wait() == 0
    return said


def test_all_forks_are_of_one_process_and_have_the_environment_asked_for(
    server: ForkServer,
) -> None:
    first, second = told(server), told(server)
    assert first == second
    assert first[1] == "the user's"


@pytest.mark.parametrize(("order", "code"), [({"code": "7"}, 7), ({"signal": "SIGSEGV"}, -11)])
def test_a_fork_ends_with_its_own_exit_code(
    server: ForkServer, order: dict[str, str], code: int
) -> None:
    assert server.fork({"name": NAME, **order}).wait() == code


def test_a_killed_fork_leaves_the_others_alone(server: ForkServer, tmp_path: Path) -> None:
    one, other = sleeping(server, tmp_path / "one"), sleeping(server, tmp_path / "other")
    os.kill(one.pid, signal.SIGKILL)
    assert one.wait() == -signal.SIGKILL
    assert other.poll(0.05) is None
    os.kill(other.pid, signal.SIGINT)
    assert other.wait() == 130


def test_a_fork_that_nobody_waits_for_is_killed(server: ForkServer, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sleeping(server, tmp_path / "note") as fork:
        raise ZeroDivisionError
    until(lambda: not alive(fork.pid))
    assert told(server)


def test_forks_end_with_their_server(tmp_path: Path) -> None:
    server = make()
    fork = sleeping(server, tmp_path / "note")
    os.kill(int(told(server)[0]), signal.SIGKILL)
    assert fork.wait() == -signal.SIGKILL
    until(lambda: not alive(fork.pid))
    assert server.ended
    with pytest.raises(ForkServerError, match="it ended with status -9"):
        server.fork({"name": NAME})
    server.close()


def test_a_server_ends_with_the_process_that_made_it(tmp_path: Path) -> None:
    note = tmp_path / "note"
    code = (
        "import sys; from tests.common.test_fork_server import *\n"
        "server = make(); fork = sleeping(server, Path(sys.argv[1]))\n"
        "print(told(server)[0], flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(note)], stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None
        server, fork = int(maker.stdout.readline()), int(note.read_text())
        assert alive(server)
        assert alive(fork)
        maker.kill()
    until(lambda: not alive(server) and not alive(fork))


def test_a_server_with_several_threads_forks_nothing() -> None:
    server = make("thread")
    with pytest.raises(ForkServerError, match="2 threads"):
        server.fork({"name": NAME})
    server.close()
