"""Turns a task into the text that a model continues, and its answer into a program."""

from collections.abc import Callable

from codejoule.config import ConfigError
from codejoule.config.schema import Split, Variant
from codejoule.domain import Completion, Prompt, Suite, Task
from codejoule.suites.repair import FailedProgram
from codejoule.suites.sanitize import sanitize

# The wording of BigCodeBench 0.2.5's defaults: a different one gives different scores.
_INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a "
    "markdown code block:"
)
_RESPONSE = (
    "Below is a Python script with a self-contained function that solves the problem and "
    "passes corresponding tests:"
)
_FAILED = "The script fails tests with this output:"
_REPAIR = "Please provide the corrected self-contained Python script in a markdown code block:"
_ANSWER = "[[codejoule: the answer begins here]]"
"""Stands in the rendered chat where the model is to go on."""


def build_prompt(
    task: Task,
    *,
    split: Split,
    variant: Variant,
    sample: int,
    render_chat: Callable[[list[dict[str, str]]], str] | None,
    thinking: bool = False,
    failed: FailedProgram | None = None,
) -> Prompt:
    """The request for one sample of one task. A base model continues the raw ``complete_prompt``.
    An instruct model gets the task as a user turn, and its answer is begun for it up to the open
    code fence: `render_chat` applies the tokenizer's chat template to messages of ``role`` and
    ``content``, and its text is cut where the answer begins. With `thinking` nothing is begun for
    it: the messages are the user's turn alone.

    After an attempt that `failed` the request is to repair it. An instruct model finds its program
    as its own earlier answer, and the tests' output as the user's next turn. A base model finds
    the program, the output as a comment below, and then continues its ``complete_prompt`` once
    more, so that its answer means what it meant before. Raises `ConfigError` for a base model
    on the instruct split and for an instruct model without a usable chat template."""
    if variant is Variant.base:
        if split is Split.instruct:
            raise ConfigError(
                "suite.split=instruct with model.variant=base: a base model continues text and "
                "follows no instructions; choose suite.split=complete or an instruct model"
            )
        text = _after(failed) + task.complete_prompt
    else:
        text = _chat(task, split, render_chat, thinking=thinking, failed=failed)
    return Prompt(
        task_id=task.task_id,
        sample=sample,
        text=text,
        # A chat template writes its BOS itself, and a second one moves scores.
        add_special_tokens=variant is Variant.base,
    )


def solution_of(
    task: Task, completion: Completion, *, split: Split, variant: Variant
) -> tuple[str, str]:
    """Raw and sanitized program that `completion` stands for (upstream's ``raw_solution``
    and ``solution``)."""
    raw = raw_solution(task, completion.text, split=split, variant=variant)
    return raw, sanitize(raw, task.entry_point, task.tested_names)


def raw_solution(task: Task, answer: str, *, split: Split, variant: Variant) -> str:
    """The answer with its prompt where the model continued that, else by itself."""
    continues_prompt = variant is Variant.base and split is Split.complete
    return (task.complete_prompt if continues_prompt else "") + answer.replace("\t", "    ")


def stops_for(suite: Suite, variant: Variant) -> tuple[str, ...]:
    """Strings that end a completion by a model of that variant, each once."""
    base = suite.stop_base if variant is Variant.base else ()
    return tuple(dict.fromkeys(suite.stop + base))


def _after(failed: FailedProgram | None) -> str:
    """What stands in front of a base model's prompt."""
    if failed is None:
        return ""
    output = "".join(f"# {line}\n" for line in failed.output.splitlines())
    program = failed.program.strip("\n")
    return f"{program}\n\n\n# {_FAILED}\n{output}# The corrected script:\n\n"


def _chat(
    task: Task,
    split: Split,
    render_chat: Callable[[list[dict[str, str]]], str] | None,
    *,
    thinking: bool,
    failed: FailedProgram | None,
) -> str:
    if render_chat is None:
        raise ConfigError(
            "model.variant=instruct: the tokenizer has no chat template to put the task in; "
            "set model.variant=base, or use a tokenizer that has one"
        )
    if split is Split.complete:
        request = f"{_INSTRUCTION}\n```\n{task.complete_prompt.strip()}\n```\n"
    else:
        request = f"{_INSTRUCTION}\n{task.instruct_prompt.strip()}\n"
    messages = [{"role": "user", "content": request}]
    if failed is not None:
        program = failed.program.strip("\n")
        begun = "" if thinking else f"{_RESPONSE}\n"
        said = f"{_FAILED}\n```\n{failed.output}\n```\n{_REPAIR}\n"
        messages.append({"role": "assistant", "content": f"{begun}```python\n{program}\n```"})
        messages.append({"role": "user", "content": said})
    if not thinking:
        answer = f"{_RESPONSE}\n```python\n{_ANSWER}\n```\n"
        messages.append({"role": "assistant", "content": answer})
    try:
        rendered = render_chat(messages)
    except Exception as error:  # a template is the model's own program and may raise anything
        raise ConfigError(
            f"model.variant=instruct: the tokenizer renders no chat "
            f"({str(error).strip() or type(error).__name__}); set model.variant=base, or use a "
            "tokenizer with a chat template that takes a user's turn and an assistant's"
        ) from error
    if thinking:
        return rendered
    begun, found, _ = rendered.partition(_ANSWER)
    if not found:
        raise ConfigError(
            "model.variant=instruct: the tokenizer's chat template leaves out the assistant's "
            "text, so no answer can be begun for the model; use a template that keeps it, or "
            "set model.variant=base"
        )
    return begun
