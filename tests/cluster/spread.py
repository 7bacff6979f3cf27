"""Judges samples on a Ray cluster, and prints what came of it: a process of its own, since Ray reads
its environment when it is imported."""

import json
import logging
import sys

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig, EvaluatorSpread, MeterConfig, MeterName
from codejoule.domain import to_json
from codejoule.evaluation import Sample, canonical_sample
from codejoule.experiment.evaluation_stage import Bench
from codejoule.experiment.spread import judge_on_ray
from codejoule.suites import load_suite_named
from codejoule.tracking.entries import Judged, SandboxSetUp

SHARD = 4
TIMEOUT_S = 20.0


def samples(count: int) -> list[Sample]:
    """Right and wrong ones by turns, whose tests take a second."""
    made = []
    for number, task in enumerate(load_suite_named("starter").tasks[:count]):
        right = canonical_sample(task)
        made.append(
            Sample(
                task_id=right.task_id,
                sample=0,
                solution=right.solution if number % 2 else "def nothing(): pass",
                code_prompt=right.code_prompt,
                test=f"import time\ntime.sleep(1)\n{right.test}",
            )
        )
    return made


def main(count: int) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    evaluator = EvaluatorConfig(spread=EvaluatorSpread.ray, address="auto", shard_samples=SHARD)
    bench = Bench(
        name="test", tasks=(), evaluator=evaluator, meter=MeterConfig(name=MeterName.cpu_estimate),
        timeout_s=TIMEOUT_S,
    )  # fmt: skip
    entries: list[Judged | SandboxSetUp] = []
    print("connecting", flush=True)
    try:
        judge_on_ray(samples(count), bench, keep=entries.append, on_verdict=lambda _: None)
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps([to_json(entry) for entry in entries if isinstance(entry, Judged)]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
