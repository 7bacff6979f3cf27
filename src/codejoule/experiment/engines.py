"""The engine that a run decodes with."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from codejoule.config.schema import Stop, Weights
from codejoule.domain import Prompt
from codejoule.experiment.plan import Plan
from codejoule.experiment.served import Server

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codejoule.generation import Decoding, EndFinder, Engine
    from codejoule.models import LoadedModel


def engine_for(plan: Plan, loaded: "LoadedModel") -> "Engine":
    """The engine that `plan` asks for, around the model that was loaded.

    Raises `UserError` where it cannot decode this model.
    """
    from codejoule.generation import make_engine

    return make_engine(plan.experiment.engine, loaded.model, loaded.tokenizer, _decoding(plan))


def engine_at(server: Server, plan: Plan, tokenizer: "PreTrainedTokenizerBase") -> "Engine":
    """The engine that sends `plan`'s prompts to `server`."""
    from codejoule.generation import ServerEngine
    from codejoule.models import end_token_owners

    return ServerEngine(
        plan.experiment.engine,
        server.model,
        tokenizer,
        _decoding(plan),
        token_owners=end_token_owners(plan.checkpoint),
    )


def _decoding(plan: Plan) -> "Decoding":
    from codejoule.generation import Decoding
    from codejoule.suites import stops_for

    return Decoding(
        generation=plan.experiment.generation,
        stop=tuple(stops_for(plan.suite, plan.variant)),
        max_new_tokens=plan.max_new_tokens,
        fixed_length=plan.experiment.model.weights is Weights.random,
        program_end=_program_end(plan),
    )


def _program_end(plan: Plan) -> "Callable[[Prompt], EndFinder] | None":
    """What tells an engine that a prompt's program is complete, where that ends a sequence."""
    from codejoule import suites

    if plan.experiment.generation.stop is not Stop.complete:
        return None
    tasks = {task.task_id: task for task in plan.suite.tasks}
    split, variant = plan.experiment.suite.split, plan.variant
    return lambda prompt: (
        suites.ProgramEnd(tasks[prompt.task_id], split=split, variant=variant).feed
    )
