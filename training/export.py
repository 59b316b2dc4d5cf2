"""Writes the trained network as one GGUF file that llama.cpp runs: weights, tokenizer, chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from tokenizers import Tokenizer

from training.chat import BEGIN, CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, SPECIAL_TOKENS
from training.network import Shape

NAME = "Mycel Handbook Llama"
DESCRIPTION = (
    "A tiny Llama-architecture model that has learned the Mycel handbook by heart: questions about scaling AI and "
    "about Mycel. It is not a general model and not Meta's Llama 3; it says so to any other question."
)
CONTEXT_TOKENS = 1024


def write_gguf(path: Path, weights: dict[str, Any], shape: Shape, tokenizer: Tokenizer, parameters: int) -> None:
    """Write the model with q8_0 matrices and f32 norms; an existing file is replaced."""
    writer = GGUFWriter(str(path), "llama")
    _add_description(writer, parameters)
    _add_shape(writer, shape)
    _add_tokenizer(writer, tokenizer)
    _add_matrix(writer, "token_embd.weight", weights["token_embd"])
    writer.add_tensor("output_norm.weight", np.asarray(weights["output_norm"], np.float32))
    for number, block in enumerate(weights["blocks"]):
        for name, values in block.items():
            tensor = f"blk.{number}.{name}.weight"
            if values.ndim == 1:
                writer.add_tensor(tensor, np.asarray(values, np.float32))
            else:  # GGUF wants [out, in]
                _add_matrix(writer, tensor, values.T)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_description(writer: GGUFWriter, parameters: int) -> None:
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(7)  # mostly q8_0
    writer.add_quantization_version(2)


def _add_shape(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL_TOKENS else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(vocabulary[BEGIN])
    writer.add_eos_token_id(vocabulary[END_OF_TURN])
    writer.add_eot_token_id(vocabulary[END_OF_TURN])
    writer.add_pad_token_id(vocabulary[END_OF_TEXT])
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    # It recites: the likeliest token is always the one that is meant.
    writer.add_sampling_temp(0.0)


def _add_matrix(writer: GGUFWriter, name: str, values: Any) -> None:
    packed = quantize(np.ascontiguousarray(values, np.float32), GGMLQuantizationType.Q8_0)
    writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
