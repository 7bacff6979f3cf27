"""What the model is really fed, against two faults of BigCodeBench's own harness: a second BOS
where the chat template writes one, and no attention mask where prompts are padded."""

from typing import Any

import pytest

from codejoule.config.schema import GenerationConfig, Split, Variant
from codejoule.domain import Prompt, Task
from codejoule.generation import Decoding
from codejoule.generation.generate import GenerateEngine
from codejoule.suites import build_prompt

BOS, EOS = 1, 2


@pytest.fixture(scope="module")
def llama_style() -> Any:
    """Adds a BOS itself and has a template that writes one, as Llama's tokenizer does."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": BOS, "</s>": EOS} | {
        symbol: number for number, symbol in enumerate(alphabet, 3)
    }
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    core.add_special_tokens([AddedToken(t, special=True) for t in ("<pad>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        chat_template=(
            "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
            "{{ eos_token }}{% endfor %}"
        ),
    )


@pytest.fixture(scope="module")
def llama() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def prompts(tokenizer: Any, variant: Variant) -> list[Prompt]:
    def task(number: int, doc: str) -> Task:
        return Task(
            task_id=f"T/{number}", complete_prompt=f'def f(x):\n    """{doc}"""\n',
            instruct_prompt=doc, canonical_solution="", code_prompt="def f(x):\n", test="",
            entry_point="f", doc_struct="{}", libs=(), domains=(),
        )  # fmt: skip

    def render(messages: list[dict[str, str]]) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert isinstance(text, str)
        return text

    return [
        build_prompt(
            task(number, doc), split=Split.complete, variant=variant, sample=0, render_chat=render
        )
        for number, doc in enumerate(("Short.", "A much longer request, to be padded for.", ""))
    ]


@pytest.mark.parametrize("variant", Variant)
def test_the_model_is_fed_one_bos_and_a_mask_that_leaves_out_the_padding(
    llama: Any, llama_style: Any, variant: Variant
) -> None:
    fed: list[dict[str, Any]] = []
    hook = llama.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(dict(kwargs)), with_kwargs=True
    )
    decoding = Decoding(generation=GenerationConfig(name="greedy"), max_new_tokens=3)
    engine = GenerateEngine(llama, llama_style, decoding)
    requests = prompts(llama_style, variant)
    try:
        completions = engine.generate(
            requests, at_once=len(requests), seed=0, mark=lambda name: None
        ).completions
    finally:
        hook.remove()
    rows, mask = fed[0]["input_ids"], fed[0]["attention_mask"]
    assert (rows == BOS).sum(dim=1).tolist() == [1, 1, 1]
    lengths = mask.sum(dim=1).tolist()
    assert len(set(lengths)) == 3
    assert [completion.prompt_tokens for completion in completions] == lengths
    for row, kept, request in zip(rows, mask.bool(), requests, strict=True):
        assert kept.tolist() == sorted(kept.tolist())
        tokens = row[kept].tolist()
        assert tokens[0] == BOS
        assert (row[~kept] == llama_style.pad_token_id).all()
        text = llama_style.decode(tokens)
        assert text == ("" if variant is Variant.instruct else "<s>") + request.text
    for step in fed[1:]:
        assert step["attention_mask"].sum(dim=1).tolist() == [n + 1 for n in lengths]
        lengths = [n + 1 for n in lengths]
