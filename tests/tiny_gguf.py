"""A tiny Llama as a GGUF file, whole or with something wrong."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

WIDTH, INNER, HEADS, KV_HEADS, VOCAB, LAYERS = 64, 96, 4, 2, 40, 2

SHAPES: Mapping[str, tuple[int, ...]] = {
    "token_embd.weight": (VOCAB, WIDTH),
    "output_norm.weight": (WIDTH,),
    "output.weight": (VOCAB, WIDTH),
    **{
        f"blk.{layer}.{name}.weight": shape
        for layer in range(LAYERS)
        for name, shape in {
            "attn_norm": (WIDTH,),
            "ffn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH // HEADS * KV_HEADS, WIDTH),
            "attn_v": (WIDTH // HEADS * KV_HEADS, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }.items()
    },
}


def write_gguf(
    path: Path,
    *,
    leave_out: Collection[str] = (),
    add: Mapping[str, tuple[int, ...]] | None = None,
    parts: int | None = None,
    rope_scaling: str | None = None,
) -> Path:
    """The model in `path`; `leave_out` are beginnings of names, `add` are further tensors."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    if rope_scaling is not None:
        writer.add_string("llama.rope.scaling.type", rope_scaling)
    if parts is not None:
        writer.add_uint16("split.count", parts)
        writer.add_uint16("split.no", 0)
    _add_tokenizer(writer)
    generator = np.random.default_rng(0)
    for name, shape in {**SHAPES, **(add or {})}.items():
        if not name.startswith(tuple(leave_out) or ("nothing",)):
            writer.add_tensor(name, generator.normal(0, 0.3, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter) -> None:
    words = [f"▁{chr(ord('a') + index % 26)}{index}" for index in range(VOCAB - 3)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *words])
    writer.add_token_scores([0.0] * VOCAB)
    control = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    writer.add_token_types([*control, *[TokenType.NORMAL] * len(words)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
