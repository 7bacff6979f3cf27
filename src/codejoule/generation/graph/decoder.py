"""The model as the decode loop runs it: prompts into slots, and one token per row."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.domain import FAMILIES, Architecture
from codejoule.generation.compat import attention_implementation, sizes_vary
from codejoule.generation.graph import attention
from codejoule.generation.graph.dense import DenseLayer, DenseStep
from codejoule.generation.graph.opaque import opaque
from codejoule.generation.graph.slots import (
    LayerSlots,
    PrefillSlots,
    allocate,
    probes,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_DENSE = tuple(sorted(name for name, family in FAMILIES.items() if family.compiled_step))
_OTHERS = sorted(name for name, family in FAMILIES.items() if not family.compiled_step)
_KNOWN = (*_DENSE, *(name for name in _OTHERS if FAMILIES[name].slots))
_ROPES_BY_LENGTH = ("dynamic", "longrope")
"""Rotary embeddings whose angles depend on how long a sequence is."""


class Decoder:
    """Runs the layers of a model over a slot cache. While it is open it replaces the
    model's attention; transformers' own `generate` works again after `close`."""

    def __init__(self, model: "PreTrainedModel", *, compiled: bool | None) -> None:
        """`compiled` None compiles where that is known to help: on a GPU, for dense models. Raises
        `UserError` for a model that it cannot run."""
        _check(model)
        self._model = model
        self._moe = Architecture.from_config(model.config.to_dict()).moe
        self._base: Any = model.base_model
        self._head: Any = model.get_output_embeddings()
        can = model.config.model_type in _DENSE and _plain(model)
        if compiled and not can:
            raise UserError(
                f"engine.compile=true: compiles models of type {' and '.join(_DENSE)} whose layers "
                f"are PyTorch's own or gptqmodel's, and this is {model.config.model_type} with "
                f"{_kinds(model)}; leave it null, which captures without compiling"
            )
        on_gpu = model.device.type == "cuda"
        self.compiled = on_gpu and can if compiled is None else compiled
        self.row_kernel = False
        """Whether packed layers multiply single rows by a kernel of this package."""
        self._angles: Any = None
        self._closing = ExitStack()
        self._dense: list[DenseLayer] = []
        self._step = DenseStep() if self.compiled else None
        self._open()

    def _open(self) -> None:
        attention.register()
        before = attention_implementation(self._model)
        self._model.set_attn_implementation(attention.NAME)
        self._closing.callback(self._model.set_attn_implementation, before)
        experts = self._model.get_experts_implementation()
        self._closing.callback(self._model.set_experts_implementation, experts)
        if not self.compiled:
            return
        self.row_kernel = self._closing.enter_context(opaque(self._model))
        for number, layer in enumerate(self._base.layers):
            # Each cache here belongs to one layer. A number that differs would make torch.compile
            # compile every layer anew.
            layer.self_attn.layer_idx = 0
            self._closing.callback(setattr, layer.self_attn, "layer_idx", number)
            self._dense.append(DenseLayer(layer))

    def close(self) -> None:
        """Give the model back as it was."""
        self._closing.close()

    def suit_experts(self, rows: int) -> None:
        """Run a mixture of experts, if there is one, in the way that moves fewer weights for so
        many rows; either leaves the choice of experts on the device."""
        import torch

        moe = self._moe
        if moe is not None:
            # Batched products copy the weights of every row's experts; grouped ones read each
            # expert once, but in bfloat16 alone without a look at what the experts are.
            grouped = self._model.dtype == torch.bfloat16
            few = rows * moe.active <= moe.routed
            self._model.set_experts_implementation(
                "batched_mm" if few or not grouped else "grouped_mm"
            )

    def allocate(self, *, slots: int, length: int) -> list[LayerSlots]:
        """Empty slots of `length` tokens for every layer."""
        import torch

        seen = probes(len(self._base.layers))
        one = torch.zeros((1, 2), dtype=torch.long, device=self._model.device)
        places = torch.arange(2, device=self._model.device)[None]
        self._through(self._base.embed_tokens(one), self._rotary(one, places), None, seen)
        if self._model.config.rope_parameters["rope_type"] not in _ROPES_BY_LENGTH:
            every = torch.arange(length, device=self._model.device)[None]
            self._angles = self._rotary(one, every)
        return allocate(seen, slots=slots, length=length)

    def prefill(
        self, ids: "torch.Tensor", lengths: "torch.Tensor", rows: "torch.Tensor", slots: Any
    ) -> "torch.Tensor":
        """Read prompts into the slots of `rows`; logits behind each, shape (prompts, vocabulary).
        `ids` has shape (prompts, width), padded on the right: what follows a prompt's end is seen
        by no token of it, and is overwritten before it is read."""
        import torch

        places = torch.arange(ids.shape[1], device=ids.device)[None]
        caches = [PrefillSlots(layer, rows) for layer in slots]
        rotary = self._rotary(ids, places)
        hidden = self._through(self._base.embed_tokens(ids), rotary, None, caches)
        last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
        logits: torch.Tensor = self._head(self._base.norm(last))
        return logits

    def step(
        self, tokens: "torch.Tensor", positions: "torch.Tensor", slots: Any, *, length: int
    ) -> "torch.Tensor":
        """Logits behind one more token of each row, shape (rows, vocabulary). Row `i` has
        ``positions[i]`` tokens in its slot before this one; `length` is more than any of them."""
        import torch

        seen = torch.arange(length, device=tokens.device)[None] <= positions[:, None]
        mask = seen[:, None, None]
        hidden = self._base.embed_tokens(tokens[:, None])
        rotary = (
            self._rotary(tokens, positions[:, None])
            if self._angles is None
            else _each(self._angles, lambda angles: angles[0, positions][:, None])
        )
        caches = [layer.step(positions, mask) for layer in slots]
        logits: torch.Tensor
        if self._step is None:
            hidden = self._through(hidden, rotary, mask, caches)
            logits = self._head(self._base.norm(hidden[:, -1]))
            return logits
        sizes_vary(mask, 3)
        if len(tokens) > 1:
            for tensor in (mask, positions):
                sizes_vary(tensor, 0)
            _each(rotary, lambda angles: sizes_vary(angles, 0))
        logits = self._step(self._dense, self._base.norm, self._head, hidden, mask, rotary, caches)
        return logits

    def _rotary(self, ids: "torch.Tensor", places: "torch.Tensor") -> Any:
        """Rotary embeddings of these places, in the form that the model's layers take."""
        like = self._base.embed_tokens(ids[:1])  # for its dtype alone
        return self._base.rotary_emb(like, position_ids=places)

    def _through(
        self, hidden: Any, rotary: Any, mask: "torch.Tensor | None", caches: Sequence[Any]
    ) -> Any:
        """The layers one after the other, each by its own forward."""
        for layer, cache in zip(self._base.layers, caches, strict=True):
            hidden = layer(
                hidden,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                position_embeddings=rotary,
            )
        return hidden


def _each(tensors: Any, function: Callable[["torch.Tensor"], Any]) -> Any:
    """A function of each of some tensors, or of one."""
    return tuple(map(function, tensors)) if isinstance(tensors, tuple) else function(tensors)


def _check(model: "PreTrainedModel") -> None:
    config = model.config
    if config.model_type not in _KNOWN:
        raise UserError(
            f"engine=graph: runs models of type {', '.join(_KNOWN)}, not {config.model_type}; "
            "choose engine=generate, engine=static or engine=vllm"
        )
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise UserError(
            "engine=graph: has no sliding-window attention, which this model uses; choose "
            "engine=generate or engine=vllm"
        )
    places = {parameter.device for parameter in model.parameters()}
    if len(places) > 1:
        raise UserError(
            "engine=graph: the model lies on several devices "
            f"({', '.join(sorted(map(str, places)))}); use one GPU (gpus=1), or engine=generate"
        )


def _linear(model: "PreTrainedModel") -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "in_features") and hasattr(m, "out_features")]


def _plain(model: "PreTrainedModel") -> bool:
    """Whether every linear layer is PyTorch's own, of plain tensors, or gptqmodel's."""
    import torch

    return all(
        type(layer.weight.data) is torch.Tensor
        if type(layer) is torch.nn.Linear
        else type(layer).__module__.startswith("gptqmodel.")
        for layer in _linear(model)
    )


def _kinds(model: "PreTrainedModel") -> str:
    return ", ".join(sorted({type(layer).__name__ for layer in _linear(model)}))
