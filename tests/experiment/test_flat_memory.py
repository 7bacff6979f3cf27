"""What a run holds in memory of each of its samples."""

import re
import subprocess
import sys

import pytest

from codejoule.config import checkout


def most_mib(samples: int) -> tuple[int, float]:
    """The samples that there were, and the most memory up to the last artifact [MiB]."""
    program = checkout() / "benchmarks" / "run_memory.py"
    told = subprocess.run(
        [sys.executable, str(program), "--samples", str(samples)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    row = next(line for line in told.stdout.splitlines() if re.match(r"\| [\d,]+ \|", line))
    count, *memory_mib = row.strip("| ").split(" | ")[:7]
    return int(count.replace(",", "")), float(memory_mib[-1])


@pytest.mark.slow
def test_the_memory_of_a_run_is_flat_in_its_samples() -> None:
    (few, few_mib), (many, many_mib) = most_mib(5000), most_mib(15_000)
    # It was 5 kB when all of them were held until the last artifact was written. It is 1.3 kB here
    # and 0.4 kB up to a hundred thousand, for what is written in pieces fills them first.
    assert (many_mib - few_mib) * 2**20 / (many - few) < 2000
