"""One task, and everything that can be wrong with an answer to it."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codejoule.config.schema import EvaluatorConfig
from codejoule.evaluation import Sample
from codejoule.sandbox._inside import kernel

HERE = Path(__file__).parent
SECRET = "the-secret-4f1d"
FAKE_SECRET = "the-variable-9c2e"
ABSTRACT = f"codejoule-tests-{os.getpid()}"
NOBODY = 65534

TESTS = """
import unittest

class TestCases(unittest.TestCase):
    def test_list(self):
        self.assertEqual(scale((1, 2, 3), 2), [2, 4, 6])
    def test_empty(self):
        self.assertEqual(scale([], 5), [])
    def test_none(self):
        with self.assertRaises(TypeError):
            scale(None, 1)
    def test_type(self):
        result = scale([7], 6)
        self.assertEqual(result, [42])
        self.assertIsInstance(result, list)
"""


def make_sample(
    solution: str, *, test: str = TESTS, task_id: str = "t/1", number: int = 0
) -> Sample:
    return Sample(
        task_id=task_id,
        sample=number,
        solution=solution,
        code_prompt="def scale(values, factor):",
        test=test,
    )


def named_files(folder: str) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted((HERE / folder).glob("*.txt"))}


def as_nobody() -> str | None:
    """A Python that user nobody can start, None if there is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [python, "-c", "import sys; assert sys.version_info >= (3, 10)"],
                check=True, capture_output=True, user=NOBODY, group=NOBODY, extra_groups=[],
                cwd="/",
            )  # fmt: skip
            return python
    return None


@pytest.fixture
def config() -> EvaluatorConfig:
    return EvaluatorConfig(workers=1)


@dataclasses.dataclass
class Canary:
    """Files, a variable and two servers that no sample may touch."""

    folder: Path
    server: socket.socket
    abstract: socket.socket

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def fill_in(self, text: str) -> str:
        return (
            text.replace("@CANARY@", str(self.folder))
            .replace("@PORT@", str(self.port))
            .replace("@ABSTRACT@", ABSTRACT)
        )

    def assert_untouched(self) -> None:
        assert sorted(path.name for path in self.folder.iterdir()) == ["keep.txt", "secret.txt"]
        assert (self.folder / "keep.txt").read_text() == "keep me"
        assert (self.folder / "secret.txt").read_text() == SECRET
        for server in (self.server, self.abstract):
            with pytest.raises(BlockingIOError):
                server.accept()
        for place in ("/", "/usr", "/etc", "/root", "/home"):
            with contextlib.suppress(PermissionError):
                assert not Path(place, "intruder.txt").exists()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    # Not pytest's own folder: that is closed to user nobody anyway, and would prove nothing.
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        folder.chmod(0o777)
        for file, text in (("keep.txt", "keep me"), ("secret.txt", SECRET)):
            (folder / file).write_text(text)
            (folder / file).chmod(0o666)
        local.bind("\0" + ABSTRACT)
        local.listen()
        server.setblocking(False)
        local.setblocking(False)
        patch.setenv("FAKE_SECRET", FAKE_SECRET)
        yield Canary(folder, server, local)


def in_child(work: Callable[[], Any], *, map_all_users: bool = False) -> Any:
    """What `work` returns in a forked child, through JSON; its error's text under ``error``.
    With `map_all_users` the child is root of a user namespace that holds all users."""
    reader, writer = os.pipe()
    go_reader, go_writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if map_all_users:
                kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
                os.write(writer, b" ")
                os.read(go_reader, 1)
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
            os.write(writer, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writer, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as stream:
        if map_all_users:
            stream.read(1)
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{child}/{name}").write_text("0 0 65536")
            os.write(go_writer, b"x")
        data = stream.readall()
    os.waitpid(child, 0)
    os.close(go_reader)
    os.close(go_writer)
    return json.loads(data)


def become_nobody() -> None:
    """In a child: be an ordinary user from here on."""
    if os.geteuid() == 0:
        kernel.become_sandbox_user()


def forbid_user_namespaces() -> None:
    """In a child that owns a user namespace: allow none below it."""
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
