"""Repair rounds: which programs are given back to the model, and with what."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from codejoule.config.schema import Thinking, Variant
from codejoule.domain import Prompt, Status, Task
from codejoule.experiment.plan import Plan, Request, chat_renderer, cut
from codejoule.experiment.programs import samples_of
from codejoule.experiment.shares import by_number, in_order
from codejoule.experiment.verdicts import Key, Verdicts
from codejoule.models import config_of, load_tokenizer
from codejoule.suites import MOST_OUTPUT, FailedProgram, build_prompt, told_by_tests
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, ShownJudged

Asked = Callable[[int, str, int], str]
"""Says the prompt of a round, a task and a number of its sample."""

_FAILED = (Status.failed, Status.timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of a run."""

    plan: Plan
    """The run's plan with the requests of this round."""
    journal: Journal
    """The run's journal with the samples and verdicts of this round."""
    last: bool
    """Whether none comes after it."""
    too_long: tuple[Key, ...] = ()
    """Samples that failed, and are not repaired: what the model would be asked does not fit its
    context."""


def each_round(plan: Plan, journal: Journal) -> Iterator[Round]:
    """The rounds of a run, in order. What a later one is follows from what its predecessor has
    generated, and from the verdicts on that by the shown tests: it must be asked for only when all
    of these are in the journal."""
    rounds = plan.experiment.generation.rounds
    yield Round(plan=plan, journal=journal, last=rounds == 1)
    for number in range(2, rounds + 1):
        part = journal.of_round(number)
        if part not in _rounds:
            _rounds[part] = _repair(plan, journal, number)
        yield _rounds[part]


_rounds: WeakKeyDictionary[Journal, Round] = WeakKeyDictionary()


def asked_in(plan: Plan, journal: Journal) -> Asked:
    """What the model was asked in each round of a run that has generated."""
    _, *later = each_round(plan, journal)
    repairs = {
        (each.plan.round, request.task.task_id, request.sample): request.prompt
        for each in later
        for request in itertools.chain.from_iterable(each.plan.batches)
        if request.prompt is not None
    }

    def asked(number: int, task_id: str, sample: int) -> str:
        return (plan.prompts[task_id] if number == 1 else repairs[number, task_id, sample]).text

    return asked


def longest_repair(plan: Plan) -> Prompt:
    """As long a prompt as any of a later round, nearly always: what is longer is cut to it. An
    engine that must know the longest before it loads a model is given this."""
    return _Asking(plan).longest


def _repair(plan: Plan, journal: Journal, number: int) -> Round:
    before, part = journal.of_round(number - 1), journal.of_round(number)
    shown = Verdicts(before.entries(ShownJudged))
    answers = in_order(by_number(before.entries(Batch)))
    failed = [
        sample
        for sample in samples_of(plan, answers, journal.path.parent, shown=True)
        if shown[sample.task_id, sample.sample].status in _FAILED
    ]
    requests: list[Request] = []
    too_long: list[Key] = []
    if failed:
        asking, tasks = _Asking(plan), plan.tasks
        for sample in failed:
            key = sample.task_id, sample.sample
            output = told_by_tests(shown.whole(key), judged=sample.program, test=sample.test)
            request = Request(task=tasks[sample.task_id], sample=sample.sample)
            prompt = asking.prompt(request, FailedProgram(program=sample.solution, output=output))
            if prompt is None:
                too_long.append(key)
            else:
                requests.append(replace(request, prompt=prompt))
    return Round(
        plan=replace(plan, batches=cut(requests, plan.experiment), round=number),
        journal=part,
        last=number == plan.experiment.generation.rounds,
        too_long=tuple(too_long),
    )


class _Asking:
    """Makes the prompts of a later round, none longer than `longest`, nor than the model takes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tokenizer = load_tokenizer(plan.checkpoint, plan.experiment.model)
        thinking = plan.experiment.generation.thinking is not Thinking.off
        self._base = plan.variant is Variant.base
        self._render = None if self._base else chat_renderer(self._tokenizer, thinking=thinking)
        self._thinking = thinking
        context = _context_tokens(plan)
        room = math.inf if context is None else context - plan.max_new_tokens
        fitting = (p for p in self._long() if self._tokens(p) <= room)
        self.longest = next(fitting, None) or max(plan.prompts.values(), key=_length)
        self._most_tokens = self._tokens(self.longest)

    def _long(self) -> Iterator[Prompt]:
        """Prompts as long as any, and ever shorter ones."""
        task = max(self._plan.suite.tasks, key=lambda t: _length(self._plan.prompts[t.task_id]))
        # At least a token for each that an answer may have.
        answer, output = " x" * self._plan.max_new_tokens, "x " * (MOST_OUTPUT // 2)
        for percent in range(100, -1, -2):
            program = answer[: len(answer) * percent // 100]
            attempt = FailedProgram(
                program=(task.complete_prompt if self._base else "") + program,
                output=output[: len(output) * percent // 100],
            )
            yield self._ask(task, 0, attempt)

    def prompt(self, request: Request, attempt: FailedProgram) -> Prompt | None:
        """The prompt after `attempt`, whose output is shortened as far as that is needed; None
        where even without it the prompt is too long."""
        while True:
            prompt = self._ask(request.task, request.sample, attempt)
            if self._tokens(prompt) <= self._most_tokens:
                return prompt
            if not attempt.output:
                return None
            attempt = attempt.shortened()

    def _ask(self, task: Task, sample: int, attempt: FailedProgram) -> Prompt:
        return build_prompt(
            task,
            split=self._plan.experiment.suite.split,
            variant=self._plan.variant,
            sample=sample,
            render_chat=self._render,
            thinking=self._thinking,
            failed=attempt,
        )

    def _tokens(self, prompt: Prompt) -> int:
        encoded: Mapping[str, Sequence[int]] = self._tokenizer(
            prompt.text,
            add_special_tokens=prompt.add_special_tokens,
            verbose=False,  # what does not fit is not given to the model
        )
        return len(encoded["input_ids"])


def _length(prompt: Prompt) -> int:
    return len(prompt.text)


def _context_tokens(plan: Plan) -> int | None:
    config = config_of(plan.checkpoint, plan.experiment.model)
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) else None
