"""Writes a llama GGUF with random weights: its answers are letters without sense, at a real model's pace.

It never ends an answer by itself, and each token is one letter, so that tokens can be counted from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize

from tests.fakes.tiny_gguf import BOS, CHAT_TEMPLATE, CONTROL_TOKENS, END_OF_TEXT, END_OF_TURN

_Q8: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0


@dataclass(frozen=True)
class Shape:
    """The model's size; the default has 75 million weights."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    kv_heads: int = 4
    feed_forward: int = 2048
    context_tokens: int = 8192


def write_random_gguf(path: Path, shape: Shape = Shape()) -> None:
    """Writes the file: 8 bits a weight, a vocabulary of bytes."""
    names = _byte_names()
    newline = names[10]
    tokens = [*CONTROL_TOKENS, *names.values(), newline * 2]
    writer = gguf.GGUFWriter(path, "llama")
    _write_metadata(writer, shape, tokens, newline)
    letters = [tokens.index(names[byte]) for byte in range(0x61, 0x7B)]
    for name, weights in _tensors(shape, len(tokens), letters).items():
        if weights.ndim == 1:
            writer.add_tensor(name, weights)
        else:
            writer.add_tensor(name, quantize(weights, _Q8), raw_dtype=_Q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _byte_names() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in printable else next(spare)) for byte in range(256)}


def _write_metadata(writer: gguf.GGUFWriter, shape: Shape, tokens: list[str], newline: str) -> None:
    control = set(CONTROL_TOKENS)
    writer.add_name("random weights")
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token in control else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{newline} {newline}"])
    writer.add_bos_token_id(tokens.index(BOS))
    writer.add_eos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eot_token_id(tokens.index(END_OF_TURN))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(shape: Shape, tokens: int, letters: list[int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)

    def weights(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(shape.width, dtype=np.float32)
    output = np.zeros((tokens, shape.width), dtype=np.float32)
    output[letters] = weights(len(letters), shape.width)
    # A letter beats everything else, whose score is nothing: each comes as itself and as its opposite.
    half = len(letters) // 2
    output[letters[half:]] = -output[letters[:half]]
    made = {"token_embd.weight": weights(tokens, shape.width), "output.weight": output, "output_norm.weight": ones}
    kv = shape.width // shape.heads * shape.kv_heads
    sizes = {
        "attn_q": (shape.width, shape.width),
        "attn_k": (kv, shape.width),
        "attn_v": (kv, shape.width),
        "attn_output": (shape.width, shape.width),
        "ffn_gate": (shape.feed_forward, shape.width),
        "ffn_up": (shape.feed_forward, shape.width),
        "ffn_down": (shape.width, shape.feed_forward),
    }
    for layer in range(shape.layers):
        made |= {f"blk.{layer}.{name}.weight": ones for name in ("attn_norm", "ffn_norm")}
        made |= {f"blk.{layer}.{name}.weight": weights(*size) for name, size in sizes.items()}
    return made
