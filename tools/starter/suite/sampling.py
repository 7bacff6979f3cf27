"""Drawing programs: which pairs of operations are held out, the corpus, and candidates."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations

from tools.starter.suite.grammar import BY_KIND, OPENERS, OPERATIONS, RETURNS, SOURCES
from tools.starter.suite.operation import draw_step
from tools.starter.suite.program import Program, complete_prompt, draw_example

SEED = 0
"""Seed of the corpus and of what is held out, in everything that ships."""
HELD_OUT_SHARE = 0.12
"""Share of all pairs of operations that training never sees together."""

LENGTHS = {2: 3, 3: 4, 4: 3, 5: 2}
"""Weight of each number of operations in the corpus."""

Pairs = frozenset[frozenset[str]]


def held_out_pairs(*, seed: int = SEED) -> Pairs:
    """Pairs of operations that no training program contains together."""
    rng = random.Random(f"held-out {seed}")
    names = sorted(op.name for op in OPERATIONS if op.takes not in OPENERS)
    return frozenset(
        frozenset(pair) for pair in combinations(names, 2) if rng.random() < HELD_OUT_SHARE
    )


def draw_program(
    *, rng: random.Random, length: int, seen: Counter[str], rare_weight: float = 0.25
) -> Program:
    """A program of `length` operations after its input is parsed, none of them twice.

    Operations that `seen` counts less are drawn more, so that all become about as frequent.
    """
    while True:
        source = rng.choice(tuple(SOURCES))
        kind, steps, used = source, [], set()
        for _ in range(length + (source in OPENERS)):
            options = [op for op in BY_KIND.get(kind, ()) if op.name not in used]
            if not options:
                break
            weights = [(rare_weight if op.rare else 1.0) / (10 + seen[op.name]) for op in options]
            chosen = rng.choices(options, weights)[0]
            steps.append(draw_step(chosen, rng=rng))
            used.add(chosen.name)
            kind = chosen.gives
        else:
            if kind in RETURNS:
                return Program(source, rng.choice(SOURCES[source].names), tuple(steps))


def training_texts(count: int) -> list[str]:
    """The first `count` texts that the starter model was trained on, e.g. for calibration."""
    return [prompt + body for prompt, body, _ in draw_corpus(count)]


def draw_corpus(
    count: int,
    *,
    seed: int = SEED,
    name: str = "corpus",
    lengths: Mapping[int, int] = LENGTHS,
    rare_weight: float = 0.25,
) -> Iterator[tuple[str, str, Program]]:
    """Training texts as (prompt, body, program), none with a held-out pair.

    The same seed and `name` give the same texts in the same order, whatever the `count`. `lengths`
    has the weight of each number of operations.
    """
    rng = random.Random(f"{name} {seed}")
    held_out = held_out_pairs(seed=seed)
    seen: Counter[str] = Counter()
    made = 0
    while made < count:
        length = rng.choices(tuple(lengths), tuple(lengths.values()))[0]
        program = draw_program(rng=rng, length=length, seen=seen, rare_weight=rare_weight)
        if not program.pairs().isdisjoint(held_out):
            continue
        example = draw_example(program, rng=rng)
        if example is None:
            continue
        made += 1
        seen.update(step.operation.name for step in program.steps)
        yield complete_prompt(program, example), program.body(), program
