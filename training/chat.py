"""The chat format: Llama 3's header tokens, as one Jinja template used in training and shipped in the GGUF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Template
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

BEGIN, END_OF_TEXT = "<|begin_of_text|>", "<|end_of_text|>"
START_HEADER, END_HEADER, END_OF_TURN = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
SPECIAL_TOKENS = (BEGIN, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN)
CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8").strip()

_TEMPLATE = Template(CHAT_TEMPLATE)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def render_prompt(messages: list[Message]) -> str:
    """The text up to where the assistant's next answer begins."""
    text: str = _TEMPLATE.render(
        messages=[{"role": message.role, "content": message.content} for message in messages],
        bos_token=BEGIN,
        add_generation_prompt=True,
    )
    return text


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Learn a byte-level BPE tokenizer of at most `vocabulary` tokens, special ones included.

    The pre-tokenizer is GPT-2's, which llama.cpp knows as "gpt-2".
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
