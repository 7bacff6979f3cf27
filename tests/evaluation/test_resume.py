"""kill -9, the same command again: only what is missing is judged."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Verdict
from codejoule.evaluation import Sample, VerdictLog, judge_resuming
from codejoule.evaluation.resume import setting_identity
from tests.sandbox.conftest import TESTS, make_sample, named_files

GOOD = named_files("controls")["plain"]
WRONG = "def scale(values, factor):\n    return list(values)\n"


def _write(folder: Path, count: int) -> list[str]:
    """A suite and samples that take a moment each; the options to judge them."""
    prompt = "def scale(values, factor):\n"
    task = {
        "complete_prompt": prompt, "instruct_prompt": "", "canonical_solution": "    return 0\n",
        "code_prompt": prompt, "test": TESTS, "entry_point": "scale",
    }  # fmt: skip
    slow = f"import time\ntime.sleep(0.1)\n{GOOD}"
    suite, samples = folder / "suite.jsonl", folder / "samples.jsonl"
    ids = [f"t/{number}" for number in range(count)]
    suite.write_text("".join(json.dumps({"task_id": i} | task) + "\n" for i in ids))
    samples.write_text("".join(json.dumps({"task_id": i, "solution": slow}) + "\n" for i in ids))
    return ["--suite", str(suite), "--samples", str(samples), "--out", str(folder / "out")]


def _keys(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
    return [json.loads(line)["key"] for line in lines]


def test_a_killed_evaluation_judges_only_the_rest(tmp_path: Path) -> None:
    options = [*_write(tmp_path, 10), "--workers", "1"]
    code = "import sys; from codejoule.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "evaluate", *options]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    log = tmp_path / "out" / "verdicts.jsonl"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(_keys(log)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it was killed"
    before = _keys(log)
    assert 3 <= len(before) < 10
    assert not (tmp_path / "out" / "eval_results.json").exists()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"has judged {len(before)} of 10, {len(before)} passed." in again.stderr
    assert f"{len(before)} kept from an earlier evaluation" in again.stdout
    after = _keys(log)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 10
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())["eval"]
    assert [rows[0]["status"] for rows in results.values()] == ["pass"] * 10


def _judge(
    path: Path,
    samples: list[Sample],
    *,
    timeout_s: float = 10,
    fresh: bool = False,
    config: EvaluatorConfig | None = None,
) -> tuple[list[str], list[int]]:
    """Reasons, and the numbers of the samples that were judged."""
    seen: list[int] = []
    kept: list[Verdict] = []

    def note(verdict: Verdict) -> None:
        seen.append(verdict.sample)

    with VerdictLog(path, fresh=fresh) as log:
        verdicts = judge_resuming(
            samples, log, config=config or EvaluatorConfig(workers=1), timeout_s=timeout_s,
            on_kept=kept.extend, on_verdict=note,
        )  # fmt: skip
    assert len(kept) == len(samples) - len(seen)
    return [verdict.reason for verdict in verdicts], sorted(seen)


def test_a_verdict_is_kept_only_while_all_it_depends_on_stays(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    samples = [make_sample(text, number=number) for number, text in enumerate([GOOD, WRONG])]
    assert _judge(path, samples) == (["pass", "fail"], [0, 1])
    assert _judge(path, samples) == (["pass", "fail"], [])
    more_workers = EvaluatorConfig(workers=2)
    assert _judge(path, samples, config=more_workers) == (["pass", "fail"], [])
    assert _judge(path, [samples[0], make_sample(GOOD, number=1)])[1] == [1], "changed program"
    other_tests = make_sample(GOOD, test=TESTS + "\n")
    assert _judge(path, [other_tests, samples[1]])[1] == [0], "changed tests"
    assert _judge(path, samples, timeout_s=9)[1] == [0, 1], "changed time limit"
    tighter = EvaluatorConfig(workers=1, memory_bytes=2**30)
    assert _judge(path, samples, config=tighter)[1] == [0, 1], "changed memory limit"
    assert _judge(path, samples, fresh=True)[1] == [0, 1], "asked for"
    assert _judge(path, samples) == (["pass", "fail"], [])


def test_half_a_line_and_what_is_no_verdict_are_judged_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "verdicts.jsonl"
    samples = [make_sample(GOOD, number=number) for number in range(2)]
    _judge(path, samples)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b'{"key": "other"}\n' + first + second[:40])
    assert _judge(path, samples) == (["pass", "pass"], [1])
    assert "2 lines are no verdicts; left out" in caplog.text
    assert _judge(path, samples) == (["pass", "pass"], [])


def test_another_environment_is_another_setting(tmp_path: Path) -> None:
    import venv

    found = set()
    for name, package in (("a", None), ("b", "some-1.0"), ("c", "some-2.0")):
        venv.create(tmp_path / name, with_pip=False, symlinks=True)
        (site,) = (tmp_path / name).glob("lib/python*/site-packages")
        if package:
            (site / f"{package}.dist-info").mkdir()
            words = f"Metadata-Version: 2.1\nName: some\nVersion: {package[-3:]}\n"
            (site / f"{package}.dist-info" / "METADATA").write_text(words)
        config = EvaluatorConfig(python=str(tmp_path / name / "bin" / "python"))
        found.add(setting_identity(config, timeout_s=10))
    venv.create(tmp_path / "d", with_pip=False, symlinks=True)
    (tmp_path / "d" / "nltk_data" / "corpora").mkdir(parents=True)
    (tmp_path / "d" / "nltk_data" / "corpora" / "words").write_text("data")
    config = EvaluatorConfig(python=str(tmp_path / "d" / "bin" / "python"))
    found.add(setting_identity(config, timeout_s=10))
    assert len(found) == 4
