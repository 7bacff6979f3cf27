"""Parts of an evaluation, and the whole that they make."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from codejoule.cli import main
from codejoule.cli.evaluate.shard import Shard
from codejoule.evaluation import canonical_sample
from codejoule.suites import load_suite_named

PARTS = 2


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples of three tasks, judged as a whole and in two parts."""
    folder = tmp_path_factory.mktemp("shards")
    tasks = load_suite_named("starter").tasks[:3]
    rows = [
        {"task_id": task.task_id, "solution": canonical_sample(task).solution} for task in tasks
    ]
    rows += [{"task_id": task.task_id, "solution": "def nothing(): pass"} for task in tasks[:2]]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert judge(folder, "whole") == 0
        for number in range(1, PARTS + 1):
            assert judge(folder, f"part{number}", "--shard", f"{number}/{PARTS}") == 0
    return folder


def judge(folder: Path, out: str, *options: str) -> int:
    samples = ["--samples", str(folder / "samples.jsonl"), "--out", str(folder / out)]
    return main(["evaluate", "--suite", "starter", *samples, *options])


def merge(folder: Path, out: str, *parts: str) -> int:
    folders = [str(folder / part) for part in parts]
    return main(["evaluate", "--merge", *folders, "--out", str(folder / out)])


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_a_shard_is_every_nth_sample() -> None:
    parts = [list(Shard(number=number, count=3).of("abcdefgh")) for number in (1, 2, 3)]
    assert parts == [list("adg"), list("beh"), list("cf")]


def test_the_parts_make_what_the_whole_would_have_given(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge(work, "merged", "part2", "part1") == 0
    assert "samples   5, of which 3 passed; 3 of the suite's" in capsys.readouterr().out
    whole, merged = work / "whole", work / "merged"
    assert (merged / "pass_at_k.json").read_bytes() == (whole / "pass_at_k.json").read_bytes()
    ours, theirs = ((f / "eval_results.json").read_text() for f in (merged, whole))
    # They say when they were written, to the minute.
    assert ours.partition('"eval"')[2] == theirs.partition('"eval"')[2]
    said, expected = read(merged / "summary.json"), read(whole / "summary.json")
    for measured in ("wall_s", "cpu_s", "sandbox"):
        del said[measured], expected[measured]
    assert said == expected


def _edited(work: Path, **changes: Any) -> str:
    shutil.copytree(work / "part2", work / "edited", dirs_exist_ok=True)
    file = work / "edited" / "shard.json"
    file.write_text(json.dumps(read(work / "part2" / "shard.json") | changes))
    return "edited"


@pytest.mark.parametrize(
    ("parts", "changes", "said"),
    [
        (["part1"], {}, "of 2 parts 1 are missing: --shard 2/2"),
        (["part1", "part2", "part1"], {}, "are both part 1/2: give one of them"),
        (["part1", "whole"], {}, "whole: has no shard.json"),
        (["part1", "edited"], {"timeout_s": 99.0}, "they differ in time limit"),
        (["part1", "edited"], {"samples_sha256": "0"}, "they differ in samples"),
        (["part1", "edited"], {"verdicts": []}, "is not whole; judge this part again"),
        (["part1", "edited"], {"schema_version": 1}, "not of this version of codejoule"),
    ],
)  # fmt: skip
def test_what_does_not_make_a_whole_is_refused(
    parts: list[str],
    changes: dict[str, Any],
    said: str,
    work: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _edited(work, **changes)
    assert merge(work, "refused", *parts) == 2
    assert said in capsys.readouterr().err
    assert not (work / "refused").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "3/2"], "3/2: must be I/N with I from 1 to N"),
        (["--shard", "7/9"], "has 5 samples, and no part may be empty"),
        (["--again"], "--again: it says something of a run; give --run ID"),
    ],
)
def test_wrong_parts_are_refused(
    options: list[str], said: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = judge(work, "wrong", *options)
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err
