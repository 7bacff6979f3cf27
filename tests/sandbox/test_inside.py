"""The trusted parts that run inside, each by itself."""

import socket
import struct
import subprocess
import sys
import unittest
import unittest.mock
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.sandbox._inside.messages import (
    MAX_FRAME_BYTES,
    encode_frame,
    receive_frame,
    take_frame,
)
from codejoule.sandbox._inside.outcomes import Outcomes
from codejoule.sandbox._inside.seccomp import build_program
from codejoule.sandbox._inside.snapshot import TESTS_FILE, Snapshot, find_equal_to_everything
from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.launch import _MODULES, environment_for, exposed_paths, plan_root

INSIDE = Path(__file__).parents[2] / "src/codejoule/sandbox/_inside"


@given(st.lists(st.dictionaries(st.text(), st.text()), max_size=5), st.integers(1, 9))
def test_frames_survive_any_cutting(messages: list[dict[str, str]], step: int) -> None:
    data = b"".join(map(encode_frame, messages))
    buffer, bodies = bytearray(), []
    for start in range(0, len(data), step):
        buffer += data[start : start + step]
        while (body := take_frame(buffer)) is not None:
            bodies.append(body)
    assert [encode_frame(message)[4:] for message in messages] == bodies
    assert not buffer


def test_a_frame_is_read_to_its_end_and_not_a_byte_beyond() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode_frame({"a": 1}) + encode_frame({"b": 2}) + b"\0")
        assert receive_frame(theirs.recv) == {"a": 1}
        assert theirs.recv(4, socket.MSG_PEEK) == struct.pack(">I", 8)
        assert receive_frame(theirs.recv) == {"b": 2}
        ours.close()
        assert receive_frame(theirs.recv) is None


def test_excessive_frames_are_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="the sandbox takes at most 8388608"):
        encode_frame({"a": "x" * MAX_FRAME_BYTES})
    with pytest.raises(ValueError, match="4294967295 bytes was announced"):
        take_frame(bytearray(b"\xff\xff\xff\xff"))


def test_the_shipped_modules_are_all_there_and_in_the_order_of_their_imports() -> None:
    assert set(_MODULES) == {path.stem for path in INSIDE.glob("*.py")} - {"__init__"}
    for position, name in enumerate(_MODULES):
        source = (INSIDE / f"{name}.py").read_text()
        top = source.split("if TYPE_CHECKING:")[0]
        for later in _MODULES[position:]:
            assert f"from .{later} import" not in top
        assert "codejoule." not in source


def test_the_filter_is_a_loop_free_program_that_ends_in_a_verdict() -> None:
    program = build_program()
    instructions = list(struct.iter_unpack("HBBI", program))
    assert len(instructions) < 4096
    assert instructions[-1][0] == 0x06
    for position, (code, if_true, if_false, _) in enumerate(instructions):
        if code & 0x07 == 0x05:
            assert position + 1 + max(if_true, if_false) < len(instructions)


def test_a_snapshot_notices_what_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot(Outcomes)
    assert snapshot.difference(mocks_allowed=False) is None
    with monkeypatch.context() as patch:
        patch.setattr(unittest.TestCase, "assertEqual", lambda *_: None)
        where = "unittest.case.TestCase.assertEqual"
        assert snapshot.difference(mocks_allowed=True) == where
    with monkeypatch.context() as patch:
        patch.setattr(Outcomes, "addFailure", lambda *_: None)
        assert snapshot.difference(mocks_allowed=True) == "Outcomes.addFailure"
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", unittest.mock.Mock())
        assert snapshot.difference(mocks_allowed=True) is None
        assert snapshot.difference(mocks_allowed=False) == "builtins.open"
    assert snapshot.difference(mocks_allowed=False) is None


def test_only_classes_that_equal_a_stranger_are_found() -> None:
    code = (
        "class Yes:\n    def __eq__(self, other): return 'yes'\n"
        "class No:\n    def __eq__(self, other): return self.x == other.x\n"
        "class Counts:\n    def __eq__(self, other): return self.x == other\n"
        "class Lists:\n    def __eq__(self, other): return self.x == 0 and type(other) is list\n"
        "class Unsure:\n    def __eq__(self, other): return NotImplemented\n"
    )

    def found(*names: str, file: str = "solution.py") -> str | None:
        space: dict[str, type] = {}
        exec(compile(code, file, "exec"), space)
        return find_equal_to_everything(lambda: [space[name] for name in names])

    assert found("No", "Unsure", "Counts") is None
    assert found("No", "Lists") == "Lists"
    assert found("No", "Yes") == "Yes"
    assert found("Yes", file=TESTS_FILE) is None


def test_a_failure_stays_one_whatever_is_reported_later() -> None:
    class Case(unittest.TestCase):
        def test_a(self) -> None:
            self.fail()

    outcomes, case = Outcomes(), Case("test_a")
    case.run(outcomes)
    assert outcomes.tampering() is None
    outcomes.addSuccess(case)
    assert outcomes.outcomes["test_a"][0] == "fail"
    assert outcomes.tampering() == "the outcome of a test"


def test_a_collector_that_carries_methods_of_its_own_is_found() -> None:
    outcomes = Outcomes()
    assert outcomes.tampering() is None
    vars(outcomes)["addFailure"] = print
    assert outcomes.tampering() == "TestResult.addFailure"


def test_the_root_shows_the_interpreter_and_nobodys_files() -> None:
    interpreter = describe_interpreter(None)
    steps = plan_root(interpreter)
    bound = [step["path"] for step in steps if step["kind"] == "bind"]
    home, here = str(Path.home()), str(Path.cwd())
    for path in bound:
        assert path not in (home, here, "/", "/etc", "/root", "/home", "/tmp", "/var")
        assert not Path(path, ".ssh").exists()
    assert any(interpreter.needed[0].startswith(path) for path in bound)


def test_what_lies_below_a_private_path_is_brought_back() -> None:
    steps = [
        {"kind": "dir", "path": "/tmp/env"},
        {"kind": "bind", "path": "/tmp/env/v/lib", "source": "/tmp/env/v/lib"},
        {"kind": "bind", "path": "/tmp/env/v/bin", "source": "/tmp/env/v/bin"},
        {"kind": "symlink", "path": "/var/tmp/x/lib64", "target": "lib"},
        {"kind": "bind", "path": "/usr", "source": "/usr"},
    ]
    assert exposed_paths(steps) == ["/tmp/env", "/var/tmp/x"]


def test_no_variable_of_ours_reaches_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TOKEN", "abc")
    environment = environment_for(describe_interpreter(None))
    assert "FAKE_TOKEN" not in environment
    assert environment["TZ"] == "UTC"
    assert environment["OMP_NUM_THREADS"] == "1"


def test_what_runs_inside_needs_the_standard_library_alone() -> None:
    code = (
        "import sys, types\n"
        f"package = types.ModuleType('inside'); package.__path__ = [{str(INSIDE)!r}]\n"
        "sys.modules['inside'] = package\n"
        "import inside.worker\n"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd="/")
