"""``codejoule evaluate`` from the outside."""

import gzip
import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from codejoule.cli import main
from tests.sandbox.conftest import TESTS

PROMPT = "def scale(values, factor):\n"
GOOD = "    return [v * factor for v in values]\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    row = {
        "complete_prompt": PROMPT + '    """Scale."""\n',
        "instruct_prompt": "Scale.",
        "canonical_solution": GOOD,
        "code_prompt": PROMPT,
        "test": TESTS,
        "entry_point": "scale",
        "doc_struct": "{}",
        "libs": "[]",
    }
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(json.dumps({"task_id": f"t/{n}", **row}) + "\n" for n in range(3)))
    return path


def _evaluate(tmp_path: Path, suite: Path, rows: list[dict[str, str]], *options: str) -> int:
    samples = tmp_path / "samples.jsonl.gz"
    samples.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    files = ["--suite", str(suite), "--samples", str(samples), "--out", str(tmp_path / "out")]
    return main(["evaluate", *files, *options])


def test_failing_samples_are_a_result(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"task_id": "t/0", "completion": GOOD},
        {"task_id": "t/1", "solution": PROMPT + "    return 1\n"},
        {"task_id": "t/2", "solution": "import os; os._exit(1)"},
    ]
    assert _evaluate(tmp_path, suite, rows, "--timeout-s", "10", "--verbose") == 0
    out, err = capsys.readouterr()
    assert "pass@1    0.3333  (95 % interval 0.0615 to 0.7923)" in out
    assert "3, of which 1 passed; 3 of the suite's 3 tasks" in out
    assert "reasons   pass 1, fail 1, crash 1" in out
    assert "t/2 sample 0: crash: ALL: ended with status 1" in err
    results = json.loads((tmp_path / "out/eval_results.json").read_text())["eval"]
    assert [results[f"t/{n}"][0]["status"] for n in range(3)] == ["pass", "fail", "fail"]
    assert results["t/0"][0]["solution"].startswith('def scale(values, factor):\n    """Scale."""')
    rates = json.loads((tmp_path / "out/pass_at_k.json").read_text())
    assert rates == {"pass@1": pytest.approx(1 / 3), "calibrated": True, "subset": "suite"}


def test_a_limit_of_memory_is_an_option(tmp_path: Path, suite: Path) -> None:
    hungry = PROMPT + "    return bytearray(2**30)\n"
    rows = [{"task_id": "t/0", "solution": hungry}]
    assert _evaluate(tmp_path, suite, rows, "--memory-mib", "256") == 0
    results = json.loads((tmp_path / "out/eval_results.json").read_text())["eval"]
    assert results["t/0"][0]["reason"] == "memory"


def test_what_could_not_be_judged_is_in_no_rate_and_is_named(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kills = count()
    monkeypatch.setattr("codejoule.sandbox.host_memory.HostMemory.kills", lambda _: next(kills))
    good = {"task_id": "t/0", "completion": GOOD}
    bad = [{"task_id": f"t/{number}", "completion": "    return 1\n"} for number in (1, 2)]
    assert _evaluate(tmp_path, suite, [good, *bad]) == 0
    out = capsys.readouterr().out
    assert "pass@1    1.0000" in out
    assert "unjudged  t/1, t/2: samples of these are in no rate, for this machine" in out
    assert "reasons   short of memory 2, pass 1" in out
    results = json.loads((tmp_path / "out/eval_results.json").read_text())["eval"]
    assert [results[f"t/{n}"][0]["status"] for n in range(3)] == ["pass", "unjudged", "unjudged"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["samples_passed"], summary["samples_unjudged"]) == (1, 2)
    assert _evaluate(tmp_path, suite, bad) == 0
    assert "pass@1    unknown: no sample could be judged" in capsys.readouterr().out
    assert "pass@1" not in json.loads((tmp_path / "out/pass_at_k.json").read_text())
    recorded = tmp_path / "out/eval_results.json"
    other = str(recorded.rename(tmp_path / "other.json"))
    assert _evaluate(tmp_path, suite, bad, "--compare", other) == 0
    assert "the other file has none of these samples" in capsys.readouterr().out


def test_several_samples_per_task_have_a_bootstrap_interval(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"task_id": "t/0", "completion": GOOD}
    bad = {"task_id": "t/1", "completion": "    return 1\n"}
    assert _evaluate(tmp_path, suite, [good, bad, good, bad], "--workers", "1") == 0
    out = capsys.readouterr().out
    assert "pass@1    0.5000  (95 % interval 0.0000 to 1.0000)" in out
    assert "4, of which 2 passed; 2 of the suite's 3 tasks" in out


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"task_id": "t/9", "solution": ""}, [], "line 1: task_id t/9 is not in suite suite"),
        ({"task_id": "t/1"}, [], "line 1: neither solution nor completion"),
        ({"task_id": "t/1", "solution": ""}, ["--workers", "0"], "evaluator.workers=0"),
        ({"task_id": "t/1", "solution": ""}, ["--timeout-s", "-1"], "evaluator.timeout_s=-1"),
        ({"task_id": "t/1", "solution": ""}, ["--timeout-s", "inf"], "evaluator.timeout_s=inf"),
        ({"task_id": "t/1", "solution": ""}, ["--timeout-s", "1e300"], "timeout_s=1e+300"),
        ({"task_id": "t/1", "solution": ""}, ["--memory-mib", "0"], "evaluator.memory_bytes=0"),
        ({"task_id": "t/1", "solution": ""}, ["--python", "/no/py"], "evaluator.python=/no/py"),
        ({"task_id": "t/1", "solution": ""}, ["--suite", "sarter"], "sarter"),
        ({"task_id": "t/1", "solution": ""}, ["--samples", "/no/file"], "/no/file: no such file"),
        ({"task_id": "t/1", "solution": ""}, ["--out", "/dev/null/x"], "--out /dev/null/x"),
        ({"task_id": "t/1", "raw_solution": ""}, [], "line 1: only raw_solution"),
        ({"task_id": "t/1", "solution": ""}, ["--sample", "1"], "give --inspect TASK"),
        ({"task_id": "t/1", "solution": ""}, ["--inspect", "t/1"], "--out: --inspect prints"),
        ({"task_id": "t/1", "solution": ""}, ["--compare", "/no/r.json"], "/no/r.json: no such"),
    ],
)
def test_input_that_cannot_be_judged_is_one_message(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str],
    row: dict[str, str], options: list[str], words: str,
) -> None:  # fmt: skip
    assert _evaluate(tmp_path, suite, [row], *options) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert "Traceback" not in err


def test_programs_run_whatever_editors_put_around_them(tmp_path: Path, suite: Path) -> None:
    """Numbers for names, futures, docstrings, byte-order marks and odd characters."""
    whole = (
        '\ufeff#!/usr/bin/env python\n"""Scale. \u2028\x0c"""\nfrom __future__ import annotations\n\n'
        "def scale(values: list[Later], factor: Later) -> Later:\n" + GOOD
    )
    rows = [{"task_id": number, "solution": whole} for number in (0, 1)]
    rows.append({"task_id": "t/0", "completion": GOOD})
    tasks = [json.loads(line) for line in suite.read_text().splitlines()]
    tasks[1]["test"] = f"from __future__ import annotations\n{TESTS}\nx: Never = 1\n"
    suite.write_text("\ufeff" + "".join(json.dumps(task) + "\r\n" for task in tasks))
    samples = tmp_path / "samples.json"
    samples.write_text("\ufeff" + "\r\n".join(map(json.dumps, rows)))
    files = ["--suite", str(suite), "--samples", str(samples), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *files]) == 0
    results = json.loads((tmp_path / "out/eval_results.json").read_text())["eval"]
    assert {name: [row["reason"] for row in found] for name, found in results.items()} == {
        "t/0": ["pass", "pass"],
        "t/1": ["pass"],
    }


def test_a_number_that_two_tasks_have_is_to_be_written_in_full(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.write_text(suite.read_text().replace('"t/1"', '"u/0"'))
    assert _evaluate(tmp_path, suite, [{"task_id": 0, "solution": ""}]) == 2
    said = "line 1: task_id 0 may be any of t/0, u/0; write it in full"
    assert said in capsys.readouterr().err


def test_names_from_peoples_files_steer_no_terminal(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "s\x1b[2J.jsonl"
    samples.write_text(json.dumps({"task_id": "t/\x1b]0;title\x07\u202e", "solution": ""}))
    files = ["--suite", str(suite), "--samples", str(samples), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *files]) == 2
    err = capsys.readouterr().err
    assert r"s\x1b[2J.jsonl, line 1: task_id t/\x1b]0;title\x07\u202e is not in suite" in err
    assert err.rstrip("\n").isprintable()


def test_what_upstreams_names_say_and_what_is_told_is_recorded(tmp_path: Path, suite: Path) -> None:
    name = "acme--coder--main--bigcodebench-hard-instruct--hf-0.0-1-sanitized_calibrated.jsonl"
    (tmp_path / name).write_text(json.dumps({"task_id": "t/0", "completion": GOOD}))
    files = ["--suite", str(suite), "--samples", str(tmp_path / name), "--out", str(tmp_path)]
    assert main(["evaluate", *files]) == 0
    rates = json.loads((tmp_path / "pass_at_k.json").read_text())
    assert rates == {
        "pass@1": 1.0,
        "model": "acme--coder--main",
        "split": "instruct",
        "subset": "hard",
        "calibrated": True,
    }
    assert main(["evaluate", *files, "--split", "complete", "--model", "mine"]) == 0
    rates = json.loads((tmp_path / "pass_at_k.json").read_text())
    assert (rates["model"], rates["split"]) == ("mine", "complete")


def test_part_of_a_suite_is_said_to_be_a_part(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"task_id": "t/0", "completion": GOOD}
    assert _evaluate(tmp_path, suite, [good, good, {"task_id": "t/1", "solution": ""}]) == 0
    out = capsys.readouterr().out
    assert (
        "partial   over the 2 tasks that have samples; 1 of the suite's 3 have none (pass@1 over "
        "all is at least 0.3333)" in out
    )
    assert "uneven    1 to 2 samples per task: k up to 1 only" in out


def test_an_answer_is_sanitized_on_request(tmp_path: Path, suite: Path) -> None:
    raw = f"Here you are:\n{PROMPT}{GOOD}```\nIt scales, doesn't it?"
    assert _evaluate(tmp_path, suite, [{"task_id": "t/0", "raw_solution": raw}], "--sanitize") == 0
    (one,) = json.loads((tmp_path / "out/eval_results.json").read_text())["eval"]["t/0"]
    assert (one["status"], one["solution"]) == ("pass", (PROMPT + GOOD).rstrip())


def test_the_results_of_another_evaluator_are_judged_again_and_compared(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated = f"{PROMPT}\n    pass\n"
    rows = {
        "t/0": [{"solution": calibrated + PROMPT + GOOD, "status": "pass", "details": {}}],
        "t/1": [{"solution": calibrated + "x = 1", "status": "pass", "details": {}}],
    }
    theirs = tmp_path / "m_eval_results.json"
    theirs.write_text(json.dumps({"date": "", "eval": rows}))
    out = tmp_path / "out"
    files = ["--suite", str(suite), "--samples", str(theirs), "--out", str(out)]
    assert main(["evaluate", *files]) == 0
    said = capsys.readouterr().out
    assert "agreement 0.5000 (1 of 2 samples pass or fail in both)" in said
    assert "differ    t/1 sample 0: fail here, pass there" in said
    results = json.loads((out / "eval_results.json").read_text())["eval"]
    assert results["t/1"][0]["solution"] == "x = 1"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["agreement"]["differing"] == [["t/1", 0, "fail", "pass"]]
    again = ["--samples", str(out / "eval_results.json"), "--compare", str(theirs)]
    assert main(["evaluate", *files[:2], *again, "--out", str(out)]) == 2
    assert "its eval_results.json is an input and would be replaced" in capsys.readouterr().err


def test_what_says_nothing_of_the_sample_is_told_apart(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"task_id": "t/0", "completion": GOOD},
        {
            "task_id": "t/1",
            "completion": "    import urllib.request\n"
            "    return urllib.request.urlopen('http://example.org/')\n",
        },
    ]
    assert _evaluate(tmp_path, suite, rows) == 0
    out = capsys.readouterr().out
    assert "apart     needs network: t/1: no wrong answers" in out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["needs_network"] == ["t/1"]
    assert summary["sandbox"]["launcher"] == "namespaces"


def test_one_task_is_shown_with_all_that_belongs_to_it(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"import sys\nprint('to \\x1b[2J out')\nprint('to err', file=sys.stderr)\n{PROMPT}    return []"
    samples = tmp_path / "s.jsonl"
    rows = [{"task_id": "t/1", "solution": text} for text in ("", program)]
    samples.write_text("\n".join(map(json.dumps, rows)))
    options = ["--suite", str(suite), "--inspect", "t/1"]
    assert main(["evaluate", *options, "--samples", str(samples), "--sample", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("t/1, sample 1 of 2: fail\n")
    for part in ('"""Scale."""', program, TESTS.strip(), "to \\x1b[2J out", "to err"):
        assert part in out
    results = out.partition("== results ==")[2]
    assert "pass        test_empty" in results
    assert "fail        test_list" in results
    assert "[] != [2, 4, 6]" in results
    assert "s CPU" in results and "MiB" in results
    assert main(["evaluate", *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("t/1, canonical solution: pass\n")
    assert main(["evaluate", *options, "--samples", str(samples), "--sample", "2"]) == 2
    assert "has 2 of t/1, 0 to 1" in capsys.readouterr().err
    assert main(["evaluate", "--suite", str(suite), "--inspect", "1"]) == 0
    assert capsys.readouterr().out.startswith("t/1, canonical solution: pass\n")
    assert main(["evaluate", "--suite", str(suite), "--inspect", "9"]) == 2
    said = "--inspect: task_id 9 is not in suite suite, which has 3 tasks, t/0 to t/2"
    assert said in capsys.readouterr().err


def test_nothing_to_judge_is_said(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--suite", str(suite)]) == 2
    assert "nothing to judge: give --samples FILE with --out DIR, or" in capsys.readouterr().err
    assert main(["evaluate", "--suite", str(suite), "--samples", "x.jsonl"]) == 2
    assert "--samples x.jsonl: where to? Give --out DIR" in capsys.readouterr().err


def test_the_command_needs_neither_torch_nor_mlflow(tmp_path: Path, suite: Path) -> None:
    samples = tmp_path / "s.jsonl"
    samples.write_text(json.dumps({"task_id": "t/0", "solution": "x"}))
    files = ["--suite", str(suite), "--samples", str(samples), "--out", str(tmp_path / "out")]
    code = (
        "import sys; from codejoule.cli import main; "
        f"code = main({['evaluate', *files]!r}); "
        "heavy = {'torch', 'mlflow', 'transformers', 'pandas', 'scipy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/", capture_output=True)
