"""What `generation.stop=complete` does to answers that exist: is the judged program the same,
and how much text is saved?

    python benchmarks/stop_complete.py --data DIR

DIR holds BigCodeBench's ``tasks.jsonl.gz`` (its public schema) and ``samples_complete.jsonl.gz``
and ``samples_instruct.jsonl.gz`` with the ``raw_solution`` of an instruct model. Three kinds of
answers are read in token-like pieces, once with the benchmark's stop strings alone and once with
the end of the program besides:

- the samples as they are (already cut at the benchmark's stops);
- the samples with what instruct models add: a closing fence with an explanation and further
  code, an example call, a test class, another version of the function;
- canonical solutions as a base model's continuation of the prompt, with what base models add.

Savings on the last two are those of the texts made up here, not of any model. Needs no GPU and
no network; a few minutes on one core.
"""

import argparse
import gzip
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codejoule.config.schema import Split, SuiteConfig, Variant
from codejoule.domain import FinishReason, Suite, Task
from codejoule.generation.text_stop import TextStop
from codejoule.suites import ProgramEnd, load_suite, sanitize, stops_for
from codejoule.suites.prompts import raw_solution

_PIECE = re.compile(r"[\r\n]+[ \t]*|[^\W\d_]{1,6}|\d| ?[^\w\s]{1,2}|\s|.", re.DOTALL)
"""About what a tokenizer of 150,000 tokens makes of code."""

_STOP = ["<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint("]
_STOP_BASE = ["\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "]

_CHAT_TAILS = {
    "closing fence, explanation": (
        "\n```\n\nThis function first validates its input, then does the work.\n"
        "1. It reads the arguments.\n2. It returns the result.\n"
    ),
    "closing fence, example fence": (
        "\n```\n\n### Example\n```python\nresult = {name}(1, 2)\nprint(result)\n```\n"
        "Make sure the libraries are installed:\n```bash\npip install pandas\n```\n"
    ),
    "example call": (
        "\n\n# Example usage\nexample_input_of_mine = [1, 2, 3]\n"
        "{name}(example_input_of_mine)\n# Expected: 6\n{name}([4])\n"
    ),
    "test class": (
        "\n\nimport unittest\n\nclass TestOfMine(unittest.TestCase):\n"
        "    def test_first(self):\n        self.assertEqual({name}(1), 1)\n\n"
        "    def test_second(self):\n        self.assertIsNone({name}(None))\n\n"
        "unittest.main(argv=[''], exit=False)\n"
    ),
    "the function again": "\n\n# A second version\n{program}\n",
}
_BASE_TAILS = {
    "comments and a call": (
        "\n# Test the function\ntry:\n    {name}(None)\nexcept TypeError:\n    pass\n"
        "{name}(1)\n{name}(2)\n"
    ),
    "doctest": '\n"""\nRun the examples above.\n"""\n\nimport doctest\ndoctest.testmod()\n',
    "closing fence, prose": (
        "```\n\nThis solution passes the tests. Here is another way to see it:\n\n"
        "```python\nx = 1\n```\n"
    ),
    "further functions": (
        "\n\ndef further(x):\n    return x\n\n\ndef furthermore(x):\n    return 2\n"
    ),
    "decorated function": "\n\n@staticmethod\ndef further(x):\n    return x\n\n{name}(3)\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to be read."""

    kind: str
    """What it stands for."""
    task: Task
    """The task."""
    variant: Variant
    """Whether a base model's or an instruct model's."""
    split: Split
    """The split."""
    text: str
    """All that the model would write."""


def answers(tasks: dict[str, Task], data: Path) -> Iterator[Answer]:
    """Every answer of the three kinds."""
    for split in Split:
        with gzip.open(data / f"samples_{split.value}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for row in rows:
            task = tasks[row["task_id"]]
            own = {"task": task, "variant": Variant.instruct, "split": split}
            raw = row["raw_solution"]
            yield Answer(kind=f"samples, {split.value}", text=raw, **own)
            program = row["solution"]
            for name, tail in _CHAT_TAILS.items():
                ending = tail.format(name=task.entry_point, program=program)
                yield Answer(kind=f"instruct + {name}", text=program + ending, **own)
    for task in tasks.values():
        own = {"task": task, "variant": Variant.base, "split": Split.complete}
        yield Answer(kind="base, canonical alone", text=task.canonical_solution, **own)
        for name, tail in _BASE_TAILS.items():
            ending = tail.format(name=task.entry_point)
            text = task.canonical_solution.rstrip("\n") + "\n" + ending
            yield Answer(kind=f"base + {name}", text=text, **own)


def read(answer: Answer, suite: Suite, *, complete: bool) -> tuple[str, int, TextStop, float]:
    """What is kept, characters generated, what ended it, and seconds that reading took."""
    program = ProgramEnd(answer.task, split=answer.split, variant=answer.variant)
    prompt = answer.task.complete_prompt if answer.variant is Variant.base else "```python\n"
    stop = TextStop(
        prompt=prompt,
        strings=stops_for(suite, answer.variant),
        program_end=program.feed if complete else None,
    )
    pieces = _PIECE.findall(answer.text)
    generated, began = 0, time.perf_counter()
    for piece in pieces:
        generated += len(piece)
        if stop.feed(piece):
            break
    spent_s = time.perf_counter() - began
    return answer.text[: generated if stop.kept is None else stop.kept], generated, stop, spent_s


@dataclass(slots=True)
class Tally:
    """Sums over the answers of one kind."""

    answers: int = 0
    same: int = 0
    ended: int = 0
    benchmark_characters: int = 0
    complete_characters: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with tasks and samples")
    parser.add_argument("--show", type=int, default=10, help="differences to print")
    options = parser.parse_args()
    suite = load_suite(
        SuiteConfig(
            name="bigcodebench",
            path=str(options.data / "tasks.jsonl.gz"),
            stop=_STOP,
            stop_base=_STOP_BASE,
        )
    )
    tallies: dict[str, Tally] = defaultdict(Tally)
    spent_s = {False: 0.0, True: 0.0}
    pieces, slowest_s, different = 0, 0.0, []
    for answer in answers({task.task_id: task for task in suite.tasks}, options.data):
        programs = {}
        for complete in (False, True):
            text, generated, stop, took_s = read(answer, suite, complete=complete)
            spent_s[complete] += took_s
            raw = raw_solution(answer.task, text, split=answer.split, variant=answer.variant)
            programs[complete] = (sanitize(raw, answer.task.entry_point), generated, stop)
        tally = tallies[answer.kind]
        (program, generated, _), (ours, ours_generated, stop) = programs[False], programs[True]
        tally.answers += 1
        tally.same += program == ours
        tally.ended += stop.reason is FinishReason.complete
        tally.benchmark_characters += generated
        tally.complete_characters += ours_generated
        pieces += len(_PIECE.findall(answer.text[:ours_generated]))
        slowest_s = max(slowest_s, took_s)
        if program != ours:
            different.append((answer, program, ours))
    print(f"{'answers':44} {'number':>6} {'same':>6} {'ended':>6} {'saved':>7}")
    for kind, tally in tallies.items():
        saved = 1 - tally.complete_characters / tally.benchmark_characters
        print(f"{kind:44} {tally.answers:6} {tally.same:6} {tally.ended:6} {saved:7.1%}")
    total, same = (sum(getattr(t, key) for t in tallies.values()) for key in ("answers", "same"))
    print(f"the same program: {same} of {total} ({same / total:.2%})")
    print(
        f"time per piece of text: stop strings {spent_s[False] / pieces * 1e6:.1f} us or less, "
        f"with the end of the program {spent_s[True] / pieces * 1e6:.1f} us; "
        f"slowest answer {slowest_s * 1e3:.0f} ms in all"
    )
    for answer, program, ours in different[: options.show]:
        print(f"--- {answer.kind}, {answer.task.task_id}")
        kept = [line for line in program.splitlines() if line not in ours.splitlines()]
        added = [line for line in ours.splitlines() if line not in program.splitlines()]
        print(f"only with the benchmark's stops: {kept[:6]}")
        print(f"only with the end of the program: {added[:6]}")


if __name__ == "__main__":
    main()
