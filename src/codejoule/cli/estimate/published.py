"""What the estimator says of a published figure: the same model, card, engine and batch."""

import json
import re
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from codejoule import estimate
from codejoule.cli.estimate.forecast import ConfiguredWorkload, workload_of
from codejoule.config import ConfigError, UserError
from codejoule.config.compose import compose_experiment
from codejoule.config.schema import ModelConfig, QuantConfig, Weights
from codejoule.config.typed import choices
from codejoule.domain.engines import ENGINES, EngineName
from codejoule.experiment.devices import known_card, known_cards
from codejoule.published import Prediction, PublishedFigure

PROMPT_TOKENS = 200
"""Length of a prompt where the publication does not tell it."""
OUTPUT_TOKENS = 256
"""Length of an answer where it does not tell that."""
_UNLIKE = re.compile(r"pcie|nvl|\b(?:16|24|32|40|48|64|94|96)\s?gb\b", re.IGNORECASE)
"""Words of a card's name that say it is not the one on file."""


def predict_figure(figure: PublishedFigure) -> Prediction:
    """Predict J per output token; where that cannot be done, the words say why."""
    model = _preset_of(figure.model)
    name = None if model is None else model.name
    found = _predicted(figure, model)
    if isinstance(found, str):
        return Prediction(words=found, model=name)
    energy_j, words = found
    return Prediction(energy_per_output_token_j=energy_j, words=words, model=name)


def _predicted(figure: PublishedFigure, model: ModelConfig | None) -> tuple[float, str] | str:
    """The energy, and what was taken for it; or why there is none."""
    card = _card_of(figure.card)
    if card is None:
        return f"the card {figure.card} is not on file (conf/gpu)"
    if figure.cards > 1:
        return "the estimator predicts one GPU"
    speed = estimate.ENGINE_SPEEDS.get(figure.engine)
    if speed is None:
        return f"no measurement of engine={figure.engine} is on file"
    if model is None and not figure.architecture:
        return (
            f"no preset describes the model {figure.model}; the column architecture, or "
            "--architecture, can"
        )
    own = json.dumps(figure.architecture) if figure.architecture else None
    name = figure.model if own or model is None else model.name
    try:
        work = _work_of(name, own, figure.quantization, figure.dtype, figure.engine)
    except (ConfigError, UserError) as error:
        return str(error)
    prompt, answer = figure.prompt_tokens or PROMPT_TOKENS, figure.output_tokens or OUTPUT_TOKENS
    batch = replace(
        work, batch=figure.batch, prompt_tokens=max(1, round(prompt)),
        new_tokens=max(1, round(answer)),
        refilled=figure.length == "free" and ENGINES[EngineName(figure.engine)].refills,
    )  # fmt: skip
    found = estimate.estimate_generation(batch, card=card, engine=speed, power=estimate.POWER)
    if found is None or found.energy_j is None:
        return f"the peak rate of {card.name} in {work.dtype}, or its power limit, is not on file"
    assumed = [
        f"{what} of {length} tokens assumed"
        for what, given, length in (
            ("prompts", figure.prompt_tokens, PROMPT_TOKENS),
            ("answers", figure.output_tokens, OUTPUT_TOKENS),
        )
        if given is None
    ]
    words = ", ".join([f"gpu={card.name}, calibrated with {estimate.MEASURED_WITH}", *assumed])
    return found.energy_j / (batch.batch * batch.new_tokens), words


@lru_cache(maxsize=256)
def _preset_of(name: str) -> ModelConfig | None:
    """The preset of that name or of that id on the hub, whole or without its owner."""
    wanted = name.casefold()
    for model in choices("model", ModelConfig):
        identity = (model.id or "").casefold()
        if wanted in (model.name.casefold(), identity, identity.rpartition("/")[2]):
            return model
    return None


@lru_cache(maxsize=256)
def _card_of(name: str) -> estimate.Card | None:
    """The card on file that is meant: by its driver's name, or by the choice's in any words."""
    exact = known_card(name)
    if exact is not None or _UNLIKE.search(name):
        return exact
    words = re.split(r"[^a-z0-9]+", name.casefold())
    named = {*words, *("_".join(pair) for pair in pairwise(words))}
    found = [card for card in known_cards() if card.name in named]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=256)
def _work_of(
    name: str, architecture: str | None, quantization: str, dtype: str, engine: str
) -> ConfiguredWorkload:
    """A workload of a preset, or of the model of that ``config.json``, its lengths yet to be set.

    Raises `ConfigError` for what is not known.
    """
    names = sorted(quant.name for quant in choices("quant", QuantConfig))
    if quantization not in names:
        raise ConfigError(f"the quantization {quantization} is none of {', '.join(names)}")
    overrides = [
        f"quant={quantization}",
        f"engine={engine}",
        *([f"model.dtype={dtype}"] if dtype else []),
    ]
    if architecture is None:
        return workload_of(compose_experiment([f"model={name}", *overrides]))
    experiment = compose_experiment(overrides)
    model = replace(
        experiment.model, name=name, id=None, path=None, weights=Weights.hub, quantized={},
        architecture=json.loads(architecture),
    )  # fmt: skip
    return workload_of(replace(experiment, model=model))
