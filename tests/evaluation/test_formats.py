"""BigCodeBench's files."""

import dataclasses
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.domain import Status, Verdict, from_json, to_json
from codejoule.evaluation import (
    SamplesName,
    holds_samples,
    pass_rates,
    read_eval_results,
    read_sample_file,
    samples_file,
    subset_of,
    write_eval_results,
    write_pass_at_k,
    write_samples,
)


def _verdict(task_id: str, sample: int, *, passed: bool) -> Verdict:
    return Verdict(
        task_id=task_id,
        sample=sample,
        status=Status.passed if passed else Status.failed,
        reason="pass" if passed else "fail",
        details={} if passed else {"test_a": "Traceback"},
        evaluation_s=1.0,
        evaluation_cpu_s=1.0,
    )


@pytest.mark.parametrize(
    ("base", "plus", "status"),
    [
        ("pass", "pass", Status.passed),
        ("pass", "fail", Status.failed),
        ("pass", "timeout", Status.timeout),
        ("fail", "pass", Status.failed),
        ("timeout", "fail", Status.timeout),
        ("pass", None, Status.passed),
    ],
)
def test_evalpluss_own_results_are_read(
    tmp_path: Path, base: str, plus: str | None, status: Status
) -> None:
    row = {"task_id": "Mbpp/2", "solution": "x", "base_status": base, "plus_status": plus}
    (tmp_path / "r.json").write_text(json.dumps({"hash": "0", "eval": {"Mbpp/2": [row]}}))
    (read,) = read_eval_results(tmp_path / "r.json")
    assert (read.status, read.solution) == (status, "x")


def test_a_verdict_by_two_sets_of_tests_is_kept_whole(tmp_path: Path) -> None:
    verdict = dataclasses.replace(_verdict("t/1", 0, passed=False), base=Status.passed)
    assert from_json(Verdict, json.loads(json.dumps(to_json(verdict)))) == verdict
    base = verdict.of_base_tests()
    assert (base.status, base.reason, base.details) == (Status.passed, "pass", {})
    write_eval_results(tmp_path / "r.json", [verdict], ["x"])
    (read,) = read_eval_results(tmp_path / "r.json")
    assert read.status is Status.failed
    write_pass_at_k(tmp_path / "p.json", [verdict])
    rates = json.loads((tmp_path / "p.json").read_text())
    assert rates == {"pass@1": 1.0, "pass@1_plus": 0.0, "calibrated": True}


def test_solutions_and_completions_are_read_and_numbered(tmp_path: Path) -> None:
    rows = [
        {"task_id": "t/1", "solution": "a = 1\u2028b", "raw_solution": "raw", "_identifier": "x"},
        {"task_id": "t/2", "completion": "    return 1"},
        {"task_id": "t/1", "solution": ""},
    ]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
    plain, packed = tmp_path / "s.jsonl", tmp_path / "s.jsonl.gz"
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    samples = read_sample_file(plain)
    assert [(s.solution, s.completion) for s in read_sample_file(packed)] == [
        (s.solution, s.completion) for s in samples
    ]
    assert [(s.task_id, s.sample, s.where) for s in samples] == [
        ("t/1", 0, f"{plain}, line 1"),
        ("t/2", 0, f"{plain}, line 3"),
        ("t/1", 1, f"{plain}, line 5"),
    ]
    assert [s.program_after("def f():\n") for s in samples] == [
        "a = 1\u2028b",
        "def f():\n    return 1",
        "",
    ]
    assert samples[0].raw_solution == "raw"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"s\.jsonl: no samples in it"),
        ("\n{", r"s\.jsonl, line 2: not JSON"),
        (
            "[]",
            r"s\.jsonl, line 1: a row must be a JSON object, not a list; .* \(jq -c '\.\[\]' FILE",
        ),
        ('{"solution": ""}', r"s\.jsonl, line 1: task_id is missing or no string"),
        ('{"task_id": "t/1"}', r"s\.jsonl, line 1: neither solution nor completion"),
        ('{"task_id": "t/1", "solution": 3}', r"s\.jsonl, line 1: solution is int, not a string"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sample_file(path)


def test_a_generator_that_was_killed_leaves_half_a_line_that_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"task_id": "t/1", "solution": "a"}\n{"task_id": "t/2", "solu')
    assert [s.task_id for s in read_sample_file(path)] == ["t/1"]
    assert "s.jsonl, line 2: cut off in the middle, so left out" in caplog.text
    path.write_text('{"task_id": "t/1", "solution": "a"}\n{"task_id": 2.5, "solution": "b"}')
    with pytest.raises(ConfigError, match="line 2: task_id is missing or no string"):
        read_sample_file(path)


def test_a_folder_of_programs_is_read_as_upstreams_tools_write_it(tmp_path: Path) -> None:
    for name in ("T_1/0.py", "T_1/10.py", "T_1/2.py", "T_2/0.py", "T_2/notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    assert [(s.task_id, s.sample, s.solution) for s in read_sample_file(tmp_path)] == [
        ("T/1", 0, "T_1/0.py"),
        ("T/1", 1, "T_1/2.py"),
        ("T/1", 2, "T_1/10.py"),
        ("T/2", 0, "T_2/0.py"),
    ]


@pytest.mark.parametrize("link", ["T_1", "T_2/0.py", "T_2/1.py"])
@pytest.mark.parametrize("target", ["/etc/hostname", "/etc", "T_2/0.py", "T_2"])
def test_a_link_in_a_folder_of_programs_is_followed_nowhere(
    tmp_path: Path, link: str, target: str
) -> None:
    folder = tmp_path / "samples"
    (folder / "T_2").mkdir(parents=True)
    (folder / "T_2/7.py").write_text("x = 1")
    (tmp_path / "T_2").mkdir()
    (tmp_path / "T_2/0.py").write_text("secret")
    (folder / link).symlink_to(tmp_path / target)
    if link == "T_1" and (tmp_path / target).is_file():
        # A file beside the tasks' folders is no task, be it a link or not.
        assert [sample.solution for sample in read_sample_file(folder)] == ["x = 1"]
        return
    with pytest.raises(ConfigError, match=r"a symbolic link, .*\(cp -RL FOLDER COPY\)") as caught:
        read_sample_file(folder)
    assert str(caught.value).startswith(f"{folder / link}: ")


def test_a_folder_of_programs_is_bounded_and_holds_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "T_1").mkdir()
    os.mkfifo(tmp_path / "T_1/0.py")
    with pytest.raises(ConfigError, match=r"0\.py: a pipe or a device"):
        read_sample_file(tmp_path)
    (tmp_path / "T_1/0.py").unlink()
    for number in range(3):
        (tmp_path / f"T_1/{number}.py").write_text("#" * 100)
    monkeypatch.setattr(samples_file, "MOST_LINE_BYTES", 99)
    with pytest.raises(ConfigError, match=r"0\.py: larger than"):
        read_sample_file(tmp_path)
    monkeypatch.setattr(samples_file, "MOST_LINE_BYTES", 100)
    monkeypatch.setattr(samples_file, "MOST_BYTES", 299)
    with pytest.raises(ConfigError, match=rf"{tmp_path.name}: larger than"):
        read_sample_file(tmp_path)


def test_byte_order_marks_are_no_part_of_a_program(tmp_path: Path) -> None:
    mark = "\ufeff"
    (tmp_path / "T_1").mkdir()
    (tmp_path / "T_1/0.py").write_text(f"{mark}x = 1")
    assert [s.solution for s in read_sample_file(tmp_path)] == ["x = 1"]
    path = tmp_path / "s.jsonl"
    rows = [
        {"task_id": "T/1", "solution": f"{mark}a"},
        {"task_id": "T/1", "completion": f"{mark}b"},
    ]
    path.write_text(mark + "\r\n".join(map(json.dumps, rows)))
    assert [s.program_after("p") for s in read_sample_file(path)] == ["a", "pb"]


def test_a_completion_that_is_a_program_of_its_own_brings_its_future(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    whole = "from __future__ import annotations\ndef f(x: X):\n    return x\n"
    path.write_text(json.dumps({"task_id": "T/1", "completion": whole}))
    (sample,) = read_sample_file(path)
    compile(sample.program_after('def f(x):\n    """Doc."""\n'), "x", "exec", dont_inherit=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"task_id": "t/1", "solution": "x"}\n{"task_id": "t/2", "solution": "x"}', True),
        ('\ufeff{"task_id": 1, "solution": "x"}', True),
        ('{"date": "", "eval": {"t/1": []}}', False),
        ('{\n  "date": ""\n}', False),
        ('[{"task_id": "t/1"}]', False),
        ("", False),
    ],
)
def test_samples_are_known_by_what_they_hold(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "a.json").write_text(text)
    assert holds_samples(tmp_path / "a.json") is expected
    assert not holds_samples(tmp_path / "none.json")


def test_a_program_that_was_not_sanitized_is_not_judged_as_if_it_were(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(
        '{"task_id": "t/1", "raw_solution": "raw"}\n'
        '{"task_id": "t/1", "raw_solution": "raw", "solution": "clean"}\n'
        '{"task_id": "t/1", "completion": "    return 1"}\n'
    )
    raw, both, continued = read_sample_file(path)
    with pytest.raises(ConfigError, match=r"line 1: only raw_solution, .* with --sanitize"):
        raw.program_after("def f():")
    assert both.program_after("def f():") == "clean"
    assert [s.unsanitized_after("def f():") for s in (raw, both, continued)] == [
        "raw",
        "raw",
        "def f():\n    return 1",
    ]


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.jsonl: no such file of samples"):
        read_sample_file(tmp_path / "missing.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xff")
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 1: not UTF-8 \(byte 1 of"):
        read_sample_file(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(ConfigError, match=r"a\.jsonl\.gz: not a whole gzip file"):
        read_sample_file(tmp_path / "a.jsonl.gz")


def test_samples_are_written_as_they_are_read(tmp_path: Path) -> None:
    for path in (tmp_path / "s.jsonl", tmp_path / "s.jsonl.gz"):
        write_samples(path, [{"task_id": "t/1", "solution": "x\ny", "raw_solution": "z"}])
        (sample,) = read_sample_file(path)
        assert (sample.task_id, sample.solution, sample.raw_solution) == ("t/1", "x\ny", "z")
    assert (tmp_path / "s.jsonl.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_results_have_bigcodebenchs_form(tmp_path: Path) -> None:
    verdicts = [
        _verdict("t/1", 0, passed=True),
        _verdict("t/2", 0, passed=False),
        _verdict("t/1", 1, passed=False),
    ]
    write_eval_results(tmp_path / "eval_results.json", verdicts, ["a", "b", "c"])
    content: dict[str, Any] = json.loads((tmp_path / "eval_results.json").read_text())
    assert list(content) == ["date", "eval"]
    assert list(content["eval"]) == ["t/1", "t/2"]
    assert [row["solution"] for row in content["eval"]["t/1"]] == ["a", "c"]
    assert content["eval"]["t/2"] == [
        {
            "task_id": "t/2",
            "solution": "b",
            "status": "fail",
            "details": {"test_a": "Traceback"},
            "reason": "fail",
        }
    ]


def test_results_are_read_as_upstream_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "model_eval_results.json"
    rows = [
        {
            "task_id": "t/1",
            "solution": "def f():\n    pass\nx = 1",
            "status": "pass",
            "details": {},
        },
        {"task_id": "t/1", "solution": "y", "status": "timeout", "details": {"ALL": "late"}},
    ]
    path.write_text(json.dumps({"date": "2024-10-01 10:00", "eval": {"t/1": rows}}))
    first, second = read_eval_results(path)
    assert (first.task_id, first.sample, first.status) == ("t/1", 0, Status.passed)
    assert first.uncalibrated("def f():") == "x = 1"
    assert second.uncalibrated("def f():") == "y"
    assert (second.sample, second.status, second.reason) == (1, Status.timeout, None)
    assert second.details == {"ALL": "late"}


def test_results_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "eval_results.json"
    write_eval_results(path, [_verdict("t/1", 0, passed=False)], ["a"])
    (one,) = read_eval_results(path)
    assert (one.solution, one.status, one.reason) == ("a", Status.failed, "fail")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no results in it"),
        ("{", "not JSON"),
        ("", r"not JSON: Expecting value at column 1 \(the file is empty\)"),
        ('{"eval": {"t/1": [], "t/1": []}}', "the key 't/1' stands twice in one object"),
        ('{"eval":\n{"t/1": \n,}', "not JSON: Expecting value at line 3, column 1"),
        ('{"eval": {"t/1": {}}}', "t/1: a list of samples is expected"),
        ('{"eval": {"t/1": [{}]}}', "t/1 sample 0: an object with the text `solution`"),
        (
            '{"eval": {"t/1": [{"solution": "", "status": "ok"}]}}',
            "t/1 sample 0: status 'ok', not one of pass, fail, timeout",
        ),
    ],
)
def test_a_bad_file_of_results_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"r\.json.*{message}"):
        read_eval_results(tmp_path / "r.json")
    with pytest.raises(ConfigError, match="no such file of results"):
        read_eval_results(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("name", "model", "split", "subset"),
    [
        (
            "Qwen--Qwen2.5-7B-Instruct--main--bigcodebench-complete--vllm-0.0-1-sanitized_calibrated.jsonl",
            "Qwen--Qwen2.5-7B-Instruct--main", "complete", "full",
        ),
        (
            "o1--medium--main--bigcodebench-hard-instruct--openai-1-1-sanitized_calibrated_eval_results.json",
            "o1--medium--main", "instruct", "hard",
        ),
        ("samples.jsonl", None, None, None),
    ],
)  # fmt: skip
def test_the_name_of_upstreams_file_says_what_it_holds(
    name: str, model: str | None, split: str | None, subset: str | None
) -> None:
    found = SamplesName.of(Path("results") / name)
    assert (found.model, found.split, found.subset) == (model, split, subset)


def test_subsets_are_called_as_upstream_calls_them() -> None:
    assert [subset_of(s) for s in ("bigcodebench", "bigcodebench_hard", "mbpp")] == [
        "full",
        "hard",
        "mbpp",
    ]


def test_pass_at_k_is_the_mean_over_tasks_for_the_k_that_all_tasks_allow(tmp_path: Path) -> None:
    verdicts = [_verdict("t/1", n, passed=n == 0) for n in range(5)]
    verdicts += [_verdict("t/2", n, passed=False) for n in range(6)]
    assert pass_rates(verdicts) == pytest.approx({1: 0.1, 5: 0.5})
    assert pass_rates([]) == {}
    assert pass_rates(verdicts, among={"t/1"}) == pytest.approx({1: 0.2, 5: 1.0})
    assert pass_rates(verdicts, among=set()) == {}


def test_pass_at_k_has_upstreams_keys_in_upstreams_order_where_they_are_known(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pass_at_k.json"
    verdicts = [_verdict("t/1", 0, passed=True)]
    known = {"model": "m--main", "split": "complete", "subset": "hard"}
    write_pass_at_k(path, verdicts, failed_tasks=["t/9"], gt_pass_rate=0.5, **known)
    assert list(json.loads(path.read_text()).items()) == [
        ("pass@1", 1.0),
        *known.items(),
        ("calibrated", True),
        ("gt_pass_rate", 0.5),
        ("failed_tasks", ["t/9"]),
    ]
    write_pass_at_k(path, verdicts, model=None, failed_tasks=None, subset="full")
    assert json.loads(path.read_text()) == {"pass@1": 1.0, "subset": "full", "calibrated": True}
