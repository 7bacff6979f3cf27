"""Verdicts on many samples."""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.evaluation import judge
from codejoule.sandbox._inside import kernel
from tests.sandbox.conftest import (
    TESTS,
    as_nobody,
    become_nobody,
    forbid_user_namespaces,
    in_child,
    make_sample,
    named_files,
)

GOOD = named_files("controls")["plain"]
WRONG = "def scale(values, factor):\n    return list(values)\n"


def _judge_one(solution: str, config: EvaluatorConfig, *, test: str = TESTS) -> Verdict:
    (verdict,) = judge([make_sample(solution, test=test)], config=config, timeout_s=10)
    return verdict


def test_verdicts_follow_the_order_of_the_samples() -> None:
    slow = "import time\ntime.sleep(0.3)\n" + GOOD
    samples = [make_sample(text, number=n) for n, text in enumerate([slow, WRONG, GOOD, WRONG])]
    seen: list[int] = []
    verdicts = judge(
        samples,
        config=EvaluatorConfig(workers=2),
        timeout_s=10,
        on_verdict=lambda verdict: seen.append(verdict.sample),
    )
    assert [v.sample for v in verdicts] == [0, 1, 2, 3]
    assert [v.reason for v in verdicts] == ["pass", "fail", "pass", "fail"]
    assert sorted(seen) == [0, 1, 2, 3]
    assert seen[0] != 0


def test_verdicts_do_not_depend_on_the_number_of_workers() -> None:
    drawing = "import random\ndef scale(values, factor):\n    raise ValueError(random.random())\n"
    ordered = "def scale(values, factor):\n    raise ValueError(list({'a', 'b', 'c', 'd'}))\n"
    texts = [GOOD, WRONG, drawing, ordered, "import os\nos._exit(3)", "def broken("] * 2
    samples = [make_sample(text, number=n) for n, text in enumerate(texts)]

    def verdicts(workers: int) -> list[tuple[str, dict[str, str]]]:
        found = judge(samples, config=EvaluatorConfig(workers=workers), timeout_s=10)
        return [(v.reason, dict(v.details)) for v in found]

    assert verdicts(1) == verdicts(2)


def test_no_samples_need_no_sandbox() -> None:
    assert judge([], config=EvaluatorConfig(python="/nowhere"), timeout_s=1) == []


@pytest.mark.parametrize(
    "test",
    [
        "import unittest\nclass TestCases(unittest.TestCase):\n    pass\n",
        "import unittest\nclass Others(unittest.TestCase):\n    def test_a(self): pass\n",
        "x = 1\n",
        "class TestCases:\n    def test_a(self): pass\n",
    ],
)
def test_a_suite_with_no_tests_run_is_not_a_pass(test: str, config: EvaluatorConfig) -> None:
    verdict = _judge_one(GOOD, config, test=test)
    assert (verdict.status, verdict.reason) == (Status.failed, "no tests run")
    assert verdict.details == {"ALL": "no tests ran: that is not a pass"}


def test_a_skipped_test_is_not_a_pass(config: EvaluatorConfig) -> None:
    test = TESTS + "    @unittest.skip('not today')\n    def test_more(self): pass\n"
    verdict = _judge_one(GOOD, config, test=test)
    assert (verdict.status, verdict.reason) == (Status.failed, "skipped")
    assert verdict.details == {"test_more": "skipped: not today"}


def test_tests_made_on_the_fly_are_not_among_the_expected(config: EvaluatorConfig) -> None:
    test = TESTS + "\nsetattr(TestCases, 'test_extra', lambda self: None)\n"
    verdict = _judge_one(GOOD, config, test=test)
    assert verdict.reason == "tampered"
    assert verdict.details == {"test_extra": "is not among the tests"}


def test_subtests_set_up_and_expected_failures_count_as_unittest_counts_them(
    config: EvaluatorConfig,
) -> None:
    test = TESTS + (
        "    def setUp(self): self.base = 2\n"
        "    def test_parts(self):\n"
        "        for n in range(3):\n"
        "            with self.subTest(n=n):\n"
        "                self.assertEqual(scale([n], self.base), [{}])\n"
        "    @unittest.expectedFailure\n"
        "    def test_known(self): self.assertEqual(scale([1], 1), [2])\n"
    )
    assert _judge_one(GOOD, config, test=test.replace("{}", "2 * n")).reason == "pass"
    verdict = _judge_one(GOOD, config, test=test.replace("{}", "n"))
    assert verdict.reason == "fail"
    assert list(verdict.details) == ["test_parts"]


def test_failures_are_told_test_by_test(config: EvaluatorConfig) -> None:
    verdict = _judge_one(WRONG, config)
    assert verdict.status is Status.failed
    assert sorted(verdict.details) == ["test_list", "test_type"]
    assert "AssertionError: Lists differ: [1, 2, 3] != [2, 4, 6]" in verdict.details["test_list"]


def test_an_error_in_set_up_of_the_class_is_a_fail(config: EvaluatorConfig) -> None:
    test = TESTS + "    @classmethod\n    def setUpClass(cls): raise OSError('no file')\n"
    verdict = _judge_one(GOOD, config, test=test)
    assert verdict.reason == "fail"
    assert "OSError: no file" in verdict.details["setUpClass (__test__.TestCases)"]


def test_the_prompts_imports_come_before_the_solution(config: EvaluatorConfig) -> None:
    import dataclasses

    solution = "def scale(values, factor):\n    return [math.prod((v, factor)) for v in values]\n"
    sample = make_sample(solution)
    assert judge([sample], config=config, timeout_s=10)[0].reason == "fail"
    prompt = "import math\ndef scale(values, factor):"
    sample = dataclasses.replace(sample, code_prompt=prompt)
    assert judge([sample], config=config, timeout_s=10)[0].reason == "pass"


def test_tests_may_patch_the_module_by_its_name(config: EvaluatorConfig) -> None:
    test = TESTS + (
        "    @unittest.mock.patch('__test__.scale', return_value='patched')\n"
        "    def test_patch(self, _): self.assertEqual(scale([], 1), 'patched')\n"
    )
    verdict = _judge_one(GOOD, config, test="import unittest.mock\n" + test)
    assert verdict.reason == "pass"


def test_tests_may_use_mock_as_they_please(config: EvaluatorConfig) -> None:
    test = (
        "import unittest.mock\n"
        + TESTS
        + (
            "    def setUp(self):\n"
            "        unittest.mock.patch('builtins.open', unittest.mock.mock_open()).start()\n"
        )
    )
    assert _judge_one(GOOD, config, test=test).reason == "pass"


def test_each_sample_has_its_own_files(config: EvaluatorConfig) -> None:
    leave = "open('/tmp/left', 'w').close(); open('here', 'w').close()\n" + GOOD
    look = (
        "import os\nassert os.listdir('.') == []\nassert not os.path.exists('/tmp/left')\n" + GOOD
    )
    verdicts = judge([make_sample(leave), make_sample(look)], config=config, timeout_s=10)
    assert [v.reason for v in verdicts] == ["pass", "pass"]


def test_a_sample_finds_nothing_of_the_one_before_in_its_memory(config: EvaluatorConfig) -> None:
    mark = "a-mark-" + "that-stands-in-the-first-sample"
    first = GOOD + f"MARK = {mark!r}\n"
    test = TESTS + f"    def test_mark(self): self.assertNotEqual({mark[::-1]!r}, '')\n"
    # The pattern does not match itself.
    look = GOOD + (
        "import re\n"
        "def look():\n"
        "    found = []\n"
        "    with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as memory:\n"
        "        for line in maps:\n"
        "            if ' rw' not in line or '[vv' in line:\n"
        "                continue\n"
        "            start, end = (int(one, 16) for one in line.split()[0].split('-'))\n"
        "            memory.seek(start)\n"
        "            part = memory.read(end - start)\n"
        "            found += re.findall(b'a-mark-[t]hat-stands|elpmas-tsrif-[e]ht', part)\n"
        "    return found\n"
        "assert look() == [], 'found ' + repr(look())\n"
    )
    samples = [make_sample(first, test=test), make_sample(look, number=1)]
    verdicts = judge(samples, config=config, timeout_s=10)
    assert [dict(v.details) for v in verdicts] == [{}, {}]


def test_samples_that_sleep_do_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    sleeping = "import time\ntime.sleep(6)\n" + GOOD
    samples = [make_sample(text, number=n) for n, text in enumerate([sleeping, GOOD, WRONG])]
    order: list[int] = []

    def note(verdict: Verdict) -> None:
        order.append(verdict.sample)

    verdicts = judge(samples, config=EvaluatorConfig(), timeout_s=30, on_verdict=note)
    assert [v.reason for v in verdicts] == ["pass", "pass", "fail"]
    assert order == [1, 2, 0]
    assert _children() == []


def test_a_number_of_workers_that_is_asked_for_is_kept_to(config: EvaluatorConfig) -> None:
    sleeping = "import time\ntime.sleep(4)\n" + GOOD
    order: list[int] = []
    judge(
        [make_sample(sleeping), make_sample(GOOD, number=1)],
        config=config,
        timeout_s=30,
        on_verdict=lambda verdict: order.append(verdict.sample),
    )
    assert order == [0, 1]


def test_a_solution_too_large_for_the_channel_is_a_fail(config: EvaluatorConfig) -> None:
    verdict = _judge_one("x = '" + "a" * 9 * 2**20 + "'\n" + GOOD, config)
    assert (verdict.status, verdict.reason) == (Status.failed, "too large")
    assert "the sandbox takes at most 8388608" in verdict.details["ALL"]


def test_a_lost_worker_is_replaced_and_that_is_said(
    config: EvaluatorConfig, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [make_sample(GOOD, number=n) for n in range(3)]
    struck: list[int] = []

    def strike(verdict: Verdict) -> None:
        if not struck:
            struck.extend(_children())
            for pid in struck:
                os.kill(pid, signal.SIGKILL)

    with caplog.at_level(logging.WARNING):
        verdicts = judge(samples, config=config, timeout_s=10, on_verdict=strike)
    assert struck
    assert [v.reason for v in verdicts] == ["pass", "pass", "pass"]
    assert "sandbox worker lost on t/1 sample" in caplog.text
    assert "trying the sample again" in caplog.text


def test_a_worker_that_is_lost_inside_its_namespaces_is_replaced(
    config: EvaluatorConfig, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [make_sample(GOOD, number=n) for n in range(3)]
    struck: list[int] = []

    def strike(verdict: Verdict) -> None:
        if not struck:
            # The only child of the process that we started, which stays outside.
            pid = _children()[-1]
            struck.extend(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
            os.kill(struck[0], signal.SIGKILL)

    with caplog.at_level(logging.WARNING):
        verdicts = judge(samples, config=config, timeout_s=10, on_verdict=strike)
    assert struck
    assert [v.reason for v in verdicts] == ["pass", "pass", "pass"]
    assert "sandbox worker lost on t/1 sample" in caplog.text
    assert _children() == []


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    mine = [int(pid) for pid in text.split()]
    for task in Path("/proc/self/task").iterdir():
        # Of a thread that has just ended there is nothing to read.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            mine += [int(pid) for pid in (task / "children").read_text().split()]
    return sorted(set(mine))


def test_an_error_of_the_caller_ends_the_workers() -> None:
    def complain(verdict: Verdict) -> None:
        raise LookupError("enough")

    endless = make_sample("while True: pass")
    start_s = time.monotonic()
    with pytest.raises(LookupError, match="enough"):
        judge(
            [endless, make_sample(GOOD), endless],
            config=EvaluatorConfig(workers=2),
            timeout_s=60,
            on_verdict=complain,
        )
    assert time.monotonic() - start_s < 10
    assert _children() == []


def test_memory_beyond_the_limit_is_the_reason() -> None:
    hungry = "def scale(values, factor):\n    return bytearray(2**31)\n"
    verdict = _judge_one(hungry, EvaluatorConfig(workers=1, memory_bytes=2**28))
    assert verdict.reason == "memory"


def test_time_is_counted_for_children_that_are_ignored(config: EvaluatorConfig) -> None:
    burn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    end = time.process_time() + 0.6\n"
        "    while time.process_time() < end: pass\n"
        "    os._exit(0)\n"
        "time.sleep(1.5)\n"
    )
    verdict = _judge_one(burn + GOOD, config)
    assert verdict.reason == "pass"
    assert verdict.evaluation_cpu_s > 0.4
    assert verdict.evaluation_s >= 1.5


def test_another_python_can_judge(config: EvaluatorConfig) -> None:
    config.python = "/usr/bin/python3"
    if not Path(config.python).exists():
        pytest.skip("no /usr/bin/python3 here")
    show = "import sys\ndef scale(values, factor):\n    raise ValueError(sys.prefix)\n"
    verdict = _judge_one(show, config)
    assert verdict.details["test_list"].endswith("ValueError: /usr\n")


def test_a_python_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"evaluator\.python=/no/such/python: not a working"):
        judge([make_sample(GOOD)], config=EvaluatorConfig(python="/no/such/python"), timeout_s=1)


def test_without_namespaces_nothing_runs_and_the_remedy_is_told() -> None:
    python = as_nobody() if os.geteuid() == 0 else None
    marker = Path(f"/var/tmp/codejoule-ran-{os.getpid()}-{time.monotonic_ns()}")
    sample = make_sample(f"open({str(marker)!r}, 'w').close()\n" + GOOD)

    def work() -> list[str]:
        become_nobody()
        uid, gid = os.getuid(), os.getgid()
        kernel.unshare(kernel.CLONE_NEWUSER)
        kernel.map_identity(uid, gid)
        forbid_user_namespaces()
        config = EvaluatorConfig(workers=1, python=python)
        return [v.reason for v in judge([sample], config=config, timeout_s=5)]

    found = in_child(work)
    if "unshare" in found["error"] and "OSError" in found["error"][:7]:
        pytest.skip("user namespaces are not available to the test itself")
    assert found["error"].startswith("UserError: the sandbox cannot start with")
    assert "sysctl -w user.max_user_namespaces=15000" in found["error"]
    assert "Untrusted code is never run without it" in found["error"]
    assert not marker.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to map all users")
def test_root_needs_no_user_namespaces() -> None:
    whoami = "import os\ndef scale(values, factor):\n    raise ValueError(os.getresuid())\n"

    def work() -> list[object]:
        forbid_user_namespaces()
        config = EvaluatorConfig(workers=1)
        verdicts = judge(
            [make_sample(GOOD), make_sample(whoami)],
            config=config, timeout_s=5,
        )  # fmt: skip
        return [(v.reason, dict(v.details)) for v in verdicts]

    good, who = in_child(work, map_all_users=True)
    assert good == ["pass", {}]
    assert "(65534, 65534, 65534)" in who[1]["test_list"]
