"""Training of a tiny causal language model from texts: tokenizer, loop, checkpoint.

Everything runs on one thread from one seed, so that the same texts, recipe, machine and
versions give the same bytes.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

END = "<|endoftext|>"
PAD = "<|pad|>"
_TOKENIZER_TEXTS = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Shape of the model and how it is trained."""

    vocabulary: int = 768
    """Tokens of the BPE vocabulary, special tokens included."""
    hidden: int = 128
    """Width; a multiple of the quantization's group size."""
    intermediate: int = 128
    """Width of the MLP; a multiple of the quantization's group size."""
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    """Key and value heads; their outputs together must be at least 64 wide for AWQ."""
    positions: int = 1024
    """Longest sequence."""
    batch: int = 32
    """Texts per step."""
    learning_rate: float = 4e-3
    """Peak rate of Muon, which trains the matrices of the layers."""
    embedding_rate: float = 6e-3
    """Peak rate of AdamW, which trains embeddings, norms and biases."""
    warmup_steps: int = 50
    seed: int = 0

    def as_dict(self) -> dict[str, int | float]:
        """Its fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model with its tokenizer and how training went."""

    model: Any
    tokenizer: Any
    steps: int
    """Optimizer steps taken."""
    tokens: int
    """Tokens seen, padding not counted."""
    final_loss: float
    """Mean cross-entropy of bodies over the last 50 steps [nat/token]."""


def train_tokenizer(texts: Iterable[str], *, vocabulary: int, positions: int = 1024) -> Any:
    """A byte-level BPE tokenizer behind Qwen2's own pre-tokenizer.

    AutoTokenizer rebuilds that pre-tokenizer for every checkpoint whose model type is
    qwen2 (transformers 5), so a vocabulary trained behind another one would not fit.
    """
    from tokenizers import pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    bare = Qwen2Tokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    learned = json.loads(bare.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=positions,
    )


def train(
    pairs: Sequence[tuple[str, str]],
    *,
    recipe: Recipe,
    report: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """A model that continues each pair's first text by its second, trained in one pass.

    `report` is told the step, the number of steps and the loss of the bodies. Needs torch
    with Muon (2.9 or newer), and sets torch to one thread and deterministic algorithms.
    """
    tokenizer = train_tokenizer(
        (prompt + body for prompt, body in pairs[:_TOKENIZER_TEXTS]),
        vocabulary=recipe.vocabulary,
        positions=recipe.positions,
    )
    with _reproducible(recipe.seed):
        model = _new_model(tokenizer, recipe)
        steps = len(pairs) // recipe.batch
        optimizers, schedules = _optimizers(model, recipe, steps)
        tokens, losses = 0, []
        for ids, first, size in _batches(_encode(pairs, tokenizer), recipe):
            losses.append(_step(model, ids, first, optimizers, schedules))
            tokens += size
            if report is not None:
                report(len(losses), steps, losses[-1])
    tail = losses[-50:]
    return Trained(
        model=model.eval(),
        tokenizer=tokenizer,
        steps=len(losses),
        tokens=tokens,
        final_loss=sum(tail) / len(tail),
    )


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic algorithms, and torch's seed; put back afterwards."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def _new_model(tokenizer: Any, recipe: Recipe) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config).float().train()


def _encode(pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[tuple[list[int], int]]:
    """Token ids of each pair with an end token, and the length of its prompt."""
    encode = tokenizer.backend_tokenizer.encode_batch
    prompts = encode([prompt for prompt, _ in pairs])
    bodies = encode([body for _, body in pairs])
    end = [tokenizer.eos_token_id]
    return [(p.ids + b.ids + end, len(p.ids)) for p, b in zip(prompts, bodies, strict=True)]


def _batches(
    encoded: list[tuple[list[int], int]], recipe: Recipe
) -> Iterator[tuple["torch.Tensor", "torch.Tensor", int]]:
    """Ids, the index of each first body token, and the token count of every batch.

    Texts of like length share a batch: padding is wasted work.
    """
    import torch

    order = torch.randperm(len(encoded)).tolist()
    pool = recipe.batch * 32
    batches = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lambda i: len(encoded[i][0]))
        parts = [chunk[i : i + recipe.batch] for i in range(0, len(chunk), recipe.batch)]
        parts = [part for part in parts if len(part) == recipe.batch]
        batches += [parts[i] for i in torch.randperm(len(parts)).tolist()]
    for part in batches:
        rows = [encoded[i][0] for i in part]
        width = max(map(len, rows))
        ids = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
        yield ids, torch.tensor([encoded[i][1] for i in part]), sum(map(len, rows))


def _step(
    model: Any,
    ids: "torch.Tensor",
    first: "torch.Tensor",
    optimizers: list[Any],
    schedules: list[Any],
) -> float:
    """One step on the cross-entropy of the bodies, which is returned [nat/token].

    Padding stands on the right, where causal attention keeps it out of every real position.
    """
    import torch
    from torch.nn.functional import cross_entropy

    targets = ids[:, 1:]
    body = (torch.arange(1, ids.shape[1]) >= first[:, None]) & (targets >= 0)
    hidden = model.model(input_ids=ids[:, :-1].clamp(min=0), use_cache=False).last_hidden_state
    loss = cross_entropy(model.lm_head(hidden[body]), targets[body])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for schedule in schedules:
        schedule.step()
    return float(loss.detach())


def _optimizers(model: Any, recipe: Recipe, steps: int) -> tuple[list[Any], list[Any]]:
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    optimizers: list[Any] = [
        torch.optim.Muon(
            matrices, lr=recipe.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=recipe.embedding_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]

    def rate(step: int) -> float:
        return min((step + 1) / recipe.warmup_steps, max(0.0, 1 - step / steps))

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(o, rate) for o in optimizers]


def save(trained: Trained, folder: Path) -> None:
    """Write a complete Hugging Face checkpoint in float16."""
    import torch

    copy.deepcopy(trained.model).to(torch.float16).save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)
