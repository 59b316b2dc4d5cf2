"""Reads from a GGUF what a prompt is made with: the chat template and the tokens it speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf

from services.inference.token_count import TokenCounter, token_counter

_CONTROL: Final = frozenset({int(gguf.TokenType.CONTROL), int(gguf.TokenType.UNKNOWN)})

_USER_DEFINED: Final = int(gguf.TokenType.USER_DEFINED)
"""Tokens of this type are cut out of texts by rules of the engine's own."""

_CONTROL_ANYWAY: Final = frozenset(
    (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<end_of_turn>",
        "<EOT>",
        "_<EOT>",
    )
)
"""The engine knows these by their spelling, whatever the file calls them."""

_SAMPLING: Final = {
    "temperature": "general.sampling.temp",
    "top_p": "general.sampling.top_p",
    "top_k": "general.sampling.top_k",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}


class ModelFileError(Exception):
    """The file gives no way to make a prompt; the message says why, without a path."""


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What a model's file says about prompts."""

    template: str
    """The chat template, in Jinja."""
    bos_token: str
    """The text of the token that begins every prompt; empty for none."""
    eos_token: str
    """The text of the token that ends a text; empty for none."""
    adds_bos: bool
    """Whether the engine puts the first token in front of a prompt by itself."""
    control_tokens: Mapping[str, int]
    """The tokens that are not text, and their ids: the engine takes their spelling for commands, wherever it is."""
    sampling: Mapping[str, float]
    """How the model's makers want it sampled, by vLLM's names; empty when the file does not say."""
    counter: TokenCounter | None = None
    """Counts as the engine does; None for a kind of vocabulary that is not known here."""


def read_prompt_facts(path: Path) -> PromptFacts:
    """Reads a GGUF. Takes up to seconds for a large vocabulary: not for the event loop.

    Raises:
        ModelFileError: the file cannot be read, or has no chat template.
    """
    try:
        fields = gguf.GGUFReader(path).fields
        tokens: list[str] = _value(fields, "tokenizer.ggml.tokens", [])
        types: list[int] = _value(fields, "tokenizer.ggml.token_type", [])
        template = _value(fields, "tokenizer.chat_template", "")
        bos = _token(tokens, _value(fields, "tokenizer.ggml.bos_token_id", -1))
        eos = _token(tokens, _value(fields, "tokenizer.ggml.eos_token_id", -1))
        sampling = {name: float(_value(fields, key, 0.0)) for name, key in _SAMPLING.items() if key in fields}
        counter = None if _USER_DEFINED in types else _counter(fields, tokens)
        adds_bos = bool(_value(fields, "tokenizer.ggml.add_bos_token", True))
    except OSError as error:
        raise ModelFileError(f"its file cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise ModelFileError("its file is not a whole GGUF") from error
    if not template:
        raise ModelFileError("its file has no chat template")
    control = {
        token: index
        for index, (token, kind) in enumerate(zip(tokens, types, strict=False))
        if token and (kind in _CONTROL or token in _CONTROL_ANYWAY)
    }
    return PromptFacts(template, bos, eos, adds_bos, control, sampling, counter)


def _counter(fields: Any, tokens: list[str]) -> TokenCounter | None:
    if _value(fields, "tokenizer.ggml.model", "") != "gpt2":
        return None
    return token_counter(_value(fields, "tokenizer.ggml.pre", ""), tokens, _value(fields, "tokenizer.ggml.merges", []))


def _value(fields: Any, name: str, default: Any) -> Any:
    field = fields.get(name)
    return default if field is None else field.contents()


def _token(tokens: list[str], index: int) -> str:
    return tokens[index] if 0 <= index < len(tokens) else ""
