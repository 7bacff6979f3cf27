"""A GGUF file of a tiny Llama with random weights, by gguf's own writer."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quantize
from tokenizers import pre_tokenizers

WIDTH, INNER, BLOCKS, HEADS = 64, 96, 2, 4
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_tiny_gguf(
    file: Path,
    *,
    kind: str = "Q8_0",
    seed: int = 0,
    without: Collection[str] = (),
    chat: bool = False,
    architecture: str = "llama",
    parts: int = 1,
) -> dict[str, np.ndarray]:
    """Write it and return its matrices as they were before they were quantized."""
    writer = GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "de", *SPECIAL]
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - len(SPECIAL)) + [3] * len(SPECIAL))
    writer.add_token_merges(["d e"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(257)
    if chat:
        writer.add_chat_template(CHAT)
    if parts > 1:
        writer.add_uint16("split.count", parts)
    rng = np.random.default_rng(seed)
    matrices = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH)}
    vectors = ["output_norm"]
    for block in range(BLOCKS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrices[f"blk.{block}.{name}"] = (WIDTH, WIDTH)
        matrices |= {f"blk.{block}.{name}": (INNER, WIDTH) for name in ("ffn_gate", "ffn_up")}
        matrices[f"blk.{block}.ffn_down"] = (WIDTH, INNER)
        vectors += [f"blk.{block}.attn_norm", f"blk.{block}.ffn_norm"]
    written = {}
    for name, shape in matrices.items():
        values = rng.normal(0, 0.05, shape).astype(np.float32)
        if name not in without:
            stored = quantize(values, GGMLQuantizationType[kind])
            writer.add_tensor(f"{name}.weight", stored, raw_dtype=GGMLQuantizationType[kind])
            written[name] = values
    for name in vectors:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written
