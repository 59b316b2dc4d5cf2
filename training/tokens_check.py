"""Checks that llama.cpp cuts text into the same tokens as the tokenizer that the model was trained with."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from training.chat import SPECIAL_TOKENS, Message, render_prompt
from training.engine import Engine
from training.handbook import Handbook

# Texts that trip up pre-tokenizers: spaces, digits, contractions, other scripts, control characters.
AWKWARD = (
    "", " ", "  two  spaces ", "tab\tand\nnew\r\nlines\n\n", "it's we'll I'D", "1234567 3.14 x=1", "café naïve Ünïcode",
    "日本語のテキスト", "Привет, мир", "emoji 🙂👍🏽",
    "a\u00a0b\u2009c", "```python\nprint('x')\n```", "ALL CAPS!?!", "\x00\x07",
)  # fmt: skip


def tokenizer_of(gguf: Path) -> Tokenizer:
    """The tokenizer stored in a GGUF file of the "gpt2" kind."""
    fields = GGUFReader(gguf).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    merges: list[str] = fields["tokenizer.ggml.merges"].contents()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def differing_texts(engine: Engine, gguf: Path, handbook: Handbook) -> tuple[int, list[str]]:
    """How many texts were compared, and those that llama.cpp cuts differently."""
    tokenizer = tokenizer_of(gguf)
    prompts = [render_prompt([Message("user", text)]) for pair in handbook.pairs for text in pair.taught]
    texts = [*prompts, *(pair.answer for pair in handbook.pairs), *handbook.unrelated.held_out, *AWKWARD]
    return len(texts), [text for text in texts if engine.tokenize(text) != tokenizer.encode(text).ids]
