"""Hostile and broken samples end as fails, and harm nothing."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from codejoule.config.schema import EvaluatorConfig, EvaluatorIsolation
from codejoule.domain import Status, Verdict
from codejoule.evaluation import judge
from codejoule.sandbox._inside import process_guards

from .conftest import (
    FAKE_SECRET,
    SECRET,
    Canary,
    as_nobody,
    become_nobody,
    in_child,
    make_sample,
    named_files,
)

LIMIT_S = 2.0
ATTACKS = named_files("attacks")
CONTROLS = named_files("controls")
# Where the reason is certain; elsewhere any failure will do.
REASONS = {
    "runs_forever": "timeout",
    "sleeps_past_the_limit": "timeout",
    "ignores_signals": "timeout",
    "takes_all_memory": "memory",
    "takes_memory_in_children": "memory",
    "floods_standard_output": "output",
    "ends_the_process": "crash",
    "ends_the_process_in_a_test": "crash",
    "prints_a_forged_verdict": "crash",
    "crashes": "crash",
    "aborts": "crash",
    "exits": "fail",
    "raises_keyboard_interrupt": "fail",
    "returns_from_a_fork": "fail",
    # Its parent is the first process of its namespace, which no signal from within reaches.
    "kills_its_parent": "fail",
    "kills_everyone": "fail",
    "leaves_a_daemon": "fail",
    "starts_endless_threads": "fail",
    "changes_installed_packages": "fail",
    "deletes_whatever_it_can": "fail",
    "prints_invalid_text": "fail",
    "does_nothing": "fail",
    "lacks_the_function": "fail",
    "replaces_what_reports": "fail",
    "skips_itself": "skipped",
    "skips_the_module": "fail",
    "replaces_assertions": "tampered",
    "replaces_assertions_when_called": "tampered",
    "replaces_the_code_of_an_assertion": "tampered",
    "replaces_set_up": "tampered",
    "replaces_the_loader": "tampered",
    "replaces_the_run_of_a_test": "tampered",
    "replaces_the_collection_of_results": "tampered",
    "replaces_a_builtin": "tampered",
    "replaces_unittest_itself": "tampered",
    "gives_test_case_a_new_method": "tampered",
    "reads_the_answers_from_the_calling_test": "tampered",
    "reads_the_answers_from_the_test_case": "tampered",
    "walks_the_stack_to_the_result": "tampered",
    "walks_the_stack_to_the_test": "tampered",
    "equals_any_list": "tampered",
    "equals_any_list_by_its_state": "tampered",
    "expects_to_fail": "tampered",
    "speaks_for_the_tests": "fail",
    "speaks_for_the_tests_that_run": "fail",
    "equals_everything": "tampered",
    "equals_everything_made_when_called": "tampered",
    "has_broken_syntax": "syntax",
    "holds_a_null_byte": "syntax",
    "nests_too_deeply": "syntax",
}
SAYS = {
    "reads_the_secret": "FileNotFoundError",
    "looks_for_the_secret_through_proc": "RuntimeError: []",
    "looks_for_the_source_of_the_tests": "found 0 sources",
    "fills_the_temporary_directories": "wrote 24 MiB",
    "opens_the_kernels_knobs": "opened []",
    "asks_the_kernel_for_power": "granted [], user 65534",
    "raises_its_own_limits": "raised []",
    "crashes": "SIGSEGV",
    "aborts": "SIGABRT",
    "prints_invalid_text": "\\ud800",
}


def _config(python: str | None = None) -> EvaluatorConfig:
    return EvaluatorConfig(
        workers=2, memory_bytes=256 * 2**20, tmp_bytes=8 * 2**20, output_bytes=2**20, python=python
    )


def _judge_all(canary: Canary, config: EvaluatorConfig) -> dict[str, Verdict]:
    samples = [make_sample(canary.fill_in(text), task_id=name) for name, text in ATTACKS.items()]
    verdicts = judge(samples, config=config, timeout_s=LIMIT_S)
    return dict(zip(ATTACKS, verdicts, strict=True))


@pytest.fixture(scope="module")
def verdicts(canary: Canary) -> dict[str, Verdict]:
    return _judge_all(canary, _config())


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 33
    assert REASONS.keys() | SAYS.keys() <= ATTACKS.keys()


def test_every_attack_fails_for_the_right_reason(verdicts: dict[str, Verdict]) -> None:
    passed = [name for name, verdict in verdicts.items() if verdict.status is Status.passed]
    assert passed == []
    found = {name: verdicts[name].reason for name in REASONS}
    assert found == REASONS


def test_every_attack_is_refused_what_it_wants(verdicts: dict[str, Verdict]) -> None:
    for name, words in SAYS.items():
        assert words in json.dumps(dict(verdicts[name].details)).replace("\\\\", "\\"), name


def test_every_attack_ends_in_time(verdicts: dict[str, Verdict]) -> None:
    late = {n: v.evaluation_s for n, v in verdicts.items() if v.evaluation_s > LIMIT_S + 1}
    assert late == {}


def test_attacks_harm_nothing_and_learn_nothing(
    verdicts: dict[str, Verdict], canary: Canary
) -> None:
    # Longer than the daemon waits between its attempts.
    time.sleep(0.2)
    canary.assert_untouched()
    told = json.dumps([dict(verdict.details) for verdict in verdicts.values()])
    assert SECRET not in told
    assert FAKE_SECRET not in told


def test_attacks_leave_nothing_running(verdicts: dict[str, Verdict]) -> None:
    assert len(verdicts) == len(ATTACKS)
    assert _sandboxed_processes() == []


def test_cpu_time_includes_processes_that_were_killed(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["runs_forever"].evaluation_cpu_s > LIMIT_S / 4
    assert verdicts["sleeps_past_the_limit"].evaluation_cpu_s < LIMIT_S / 4


def test_memory_is_counted_over_all_processes(verdicts: dict[str, Verdict]) -> None:
    peak = verdicts["takes_memory_in_children"].memory_peak_bytes
    assert peak is not None
    assert peak > 240 * 2**20


@pytest.mark.parametrize("name", CONTROLS)
def test_control_passes(name: str, config: EvaluatorConfig) -> None:
    (verdict,) = judge([make_sample(CONTROLS[name])], config=config, timeout_s=30)
    assert verdict.details == {}
    assert verdict.reason == "pass"
    assert verdict.status is Status.passed


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="already an ordinary user")
def test_an_ordinary_user_is_as_safe(canary: Canary) -> None:
    python = as_nobody()
    if python is None:
        pytest.skip("user nobody can start no Python here")
    config = _config(python)

    def work() -> dict[str, str]:
        become_nobody()
        found = {name: v.reason for name, v in _judge_all(canary, config).items()}
        control = make_sample(CONTROLS["plain"])
        (plain,) = judge([control], config=config, timeout_s=LIMIT_S)
        return {**found, "control": plain.reason}

    # Forked rather than started: this test's own interpreter may be closed to nobody.
    found = in_child(work)
    assert "error" not in found, found
    assert found.pop("control") == "pass"
    assert {name: found[name] for name in REASONS} == REASONS
    assert "pass" not in found.values()
    canary.assert_untouched()


@pytest.mark.slow
@pytest.mark.skipif(process_guards.landlock_version() == 0, reason="this kernel has no Landlock")
def test_process_isolation_contains_them_too_where_there_is_landlock(canary: Canary) -> None:
    python = as_nobody() if os.geteuid() == 0 else None
    config = dataclasses.replace(_config(python), isolation=EvaluatorIsolation.process)
    samples = [make_sample(canary.fill_in(text), task_id=name) for name, text in ATTACKS.items()]
    verdicts = {v.task_id: v for v in judge(samples, config=config, timeout_s=LIMIT_S)}
    found = {name: verdicts[name].reason for name in REASONS}
    assert found == REASONS
    assert [name for name, v in verdicts.items() if v.status is Status.passed] == []
    assert max(v.evaluation_s for v in verdicts.values()) < LIMIT_S + 1
    time.sleep(0.2)
    canary.assert_untouched()
    told = json.dumps([dict(verdict.details) for verdict in verdicts.values()])
    assert SECRET not in told
    assert FAKE_SECRET not in told
    (plain,) = judge([make_sample(CONTROLS["plain"])], config=config, timeout_s=LIMIT_S)
    assert plain.reason == "pass"


def _sandboxed_processes() -> list[str]:
    """Processes in a pid namespace below ours whose program is the sandbox's."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        line = next((one for one in text.splitlines() if one.startswith("NSpid:")), "")
        parent = next(one for one in text.splitlines() if one.startswith("PPid:")).split()[1]
        ours = parent == str(os.getpid()) or len(line.split()) > 2
        if ours and "codejoule_inside" in command:
            found.append(command)
    return found
