"""Builds a tiny llama GGUF whose output is known in advance, so tests can run a real engine on it.

The weights are those of a Markov chain: every attention and feed-forward output is zero, so the
last token alone decides the next one. A prompt that ends with the template's assistant header is
continued by the script it was built with, token by token. The vocabulary is a byte-level BPE of
llama-3's kind: each word of the script is one token and anything else falls back to single bytes,
so that a character of several bytes is spread over several tokens.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

BOS = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_TURN = "<|eot_id|>"
CALL_TAG = "<|python_tag|>"
CONTROL_TOKENS = (BOS, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN, CALL_TAG)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
HEADER_END_TEXT = "\n\n"

# Words are joined without spaces in between: a piece is one token where it is ASCII.
SCRIPT = ("Hyphae", " carry", " water", ",", " sugar", " and", " news", ": ", "🍄", " é", "!")

_WIDTH = 64
_LAYERS = 1
_HEADS = 4
_FEED_FORWARD = 32
_LOGIT_GAIN = 40.0


@dataclass(frozen=True, slots=True)
class TinyModel:
    """What a built file will say.

    Attributes:
        path: The GGUF.
        script: The pieces of the answer; joined, the whole text of it.
        endless: True when the script starts over instead of ending the turn.
    """

    path: Path
    script: tuple[str, ...]
    endless: bool

    @property
    def answer(self) -> str:
        """The text of one pass through the script."""
        return "".join(self.script)


def build_tiny_gguf(
    path: Path,
    *,
    script: Iterable[str] = SCRIPT,
    endless: bool = False,
    context_tokens: int = 32768,
    chat_template: str | None = CHAT_TEMPLATE,
) -> TinyModel:
    """Writes the model file and says what it will answer.

    Args:
        path: Where the GGUF is written.
        script: Pieces of the answer. Each byte of a non-ASCII piece, and each ASCII piece, may
            occur only once: the next token depends on the last one alone.
        endless: Starts over at the end of the script, until max_tokens or the context is reached.
        context_tokens: The context length that the file declares.
        chat_template: The Jinja template stored in the file; None stores none.

    Raises:
        ValueError: A piece of the script occurs twice.
    """
    pieces = tuple(script)
    vocabulary = _Vocabulary(pieces)
    chain = [token for piece in pieces for token in vocabulary.split(piece)]
    if len(set(chain)) != len(chain):
        raise ValueError("every token of the script must be different from the others")
    last = chain[0] if endless else vocabulary.index[END_OF_TURN]
    following = dict(zip([vocabulary.index_of_text(HEADER_END_TEXT), *chain], [*chain, last], strict=True))

    writer = gguf.GGUFWriter(path, "llama")
    _write_metadata(writer, vocabulary, context_tokens, chat_template)
    for name, weights in _tensors(len(vocabulary.tokens), following):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return TinyModel(path=path, script=pieces, endless=endless)


class _Vocabulary:
    """Control tokens, the 256 bytes, the pieces of the script and what their merges pass through."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._byte_names = _byte_names()
        self.tokens = [*CONTROL_TOKENS, *self._byte_names.values()]
        self.merges: list[str] = []
        self.index = {token: number for number, token in enumerate(self.tokens)}
        for piece in (HEADER_END_TEXT, *pieces):
            if piece.isascii() and piece not in CONTROL_TOKENS:
                self._add_piece(piece)

    def index_of_text(self, text: str) -> int:
        return self.index[self._spell(text)]

    def split(self, piece: str) -> list[int]:
        if piece in CONTROL_TOKENS:
            return [self.index[piece]]
        if piece.isascii():
            return [self.index_of_text(piece)]
        return [self.index[self._byte_names[byte]] for byte in piece.encode()]

    def _spell(self, text: str) -> str:
        return "".join(self._byte_names[byte] for byte in text.encode())

    def _add_piece(self, piece: str) -> None:
        spelled = self._spell(piece)
        for end in range(2, len(spelled) + 1):
            merge = f"{spelled[: end - 1]} {spelled[end - 1]}"
            if merge not in self.merges:
                self.merges.append(merge)
            if spelled[:end] not in self.index:
                self.index[spelled[:end]] = len(self.tokens)
                self.tokens.append(spelled[:end])


def _byte_names() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in printable else next(spare)) for byte in range(256)}


def _write_metadata(
    writer: gguf.GGUFWriter,
    vocabulary: _Vocabulary,
    context_tokens: int,
    chat_template: str | None,
) -> None:
    writer.add_name("tiny test model")
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in CONTROL_TOKENS else gguf.TokenType.NORMAL for token in vocabulary.tokens]
    )
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.index[BOS])
    writer.add_eos_token_id(vocabulary.index[END_OF_TEXT])
    writer.add_eot_token_id(vocabulary.index[END_OF_TURN])
    writer.add_add_bos_token(True)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _tensors(tokens: int, following: dict[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    random = np.random.default_rng(7)
    embedding = random.standard_normal((tokens, _WIDTH)).astype(np.float32)
    embedding /= np.sqrt(np.mean(embedding**2, axis=1, keepdims=True))
    output = np.zeros_like(embedding)
    for token, successor in following.items():
        output[successor] += embedding[token] * (_LOGIT_GAIN / _WIDTH)
    ones = np.ones(_WIDTH, dtype=np.float32)
    yield "token_embd.weight", embedding
    yield "output.weight", output
    yield "output_norm.weight", ones
    for layer in range(_LAYERS):
        prefix = f"blk.{layer}."
        yield prefix + "attn_norm.weight", ones
        yield prefix + "ffn_norm.weight", ones
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{prefix}{name}.weight", np.zeros((_WIDTH, _WIDTH), dtype=np.float32)
        for name in ("ffn_gate", "ffn_up"):
            yield f"{prefix}{name}.weight", np.zeros((_FEED_FORWARD, _WIDTH), dtype=np.float32)
        yield prefix + "ffn_down.weight", np.zeros((_WIDTH, _FEED_FORWARD), dtype=np.float32)


def main() -> None:
    """Writes the file from the command line, to try it by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--endless", action="store_true")
    arguments = parser.parse_args()
    model = build_tiny_gguf(arguments.path, endless=arguments.endless)
    print(f"{model.path}: {model.path.stat().st_size} bytes, answers {model.answer!r}")


if __name__ == "__main__":
    main()
