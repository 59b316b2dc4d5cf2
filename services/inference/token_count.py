"""Counts a prompt's tokens as the engine will, from the vocabulary in the model's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from services.inference.prompt import PromptPart

_WORDS: Final = {
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
"""How a text falls into words before bytes are merged: Llama 3's rule and GPT-2's, by their names in a GGUF."""

_WHOLE_WORDS: Final = frozenset({"llama-bpe"})
"""The rules by which a word that is a token stays whole, whatever the merges would make of it."""


class TokenCounter:
    """Counts tokens of byte-level vocabularies. For any thread."""

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        """Makes a counter.

        Args:
            tokenizer: the vocabulary, without control tokens.
            longest: the bytes of its longest token.
        """
        self._tokenizer = tokenizer
        self._longest = longest

    def most(self, parts: Sequence[PromptPart]) -> int:
        """Gives a number that the count does not exceed, without counting: a token is one byte at least."""
        return sum(1 if isinstance(part, int) else len(part.encode()) for part in parts)

    def least(self, parts: Sequence[PromptPart]) -> int:
        """Gives a number that the count does not fall below, without counting."""
        return sum(1 if isinstance(part, int) else -(-len(part.encode()) // self._longest) for part in parts)

    def count(self, parts: Sequence[PromptPart]) -> int:
        """Counts. Takes about a second for some megabytes."""
        texts = [part for part in parts if isinstance(part, str)]
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return len(parts) - len(texts) + sum(len(each) for each in encoded)


def token_counter(rule: str, tokens: Sequence[str], merges: Sequence[str]) -> TokenCounter | None:
    """Makes a counter; None when the rule is not known or the vocabulary is not whole.

    Args:
        rule: how texts fall into words, by the name in the file.
        tokens: the vocabulary.
        merges: the pairs that are merged, the first ones first, each with a blank between.
    """
    words = _WORDS.get(rule)
    if words is None:
        return None
    pairs = [(merge[:blank], merge[blank + 1 :]) for merge in merges if (blank := merge.find(" ", 1)) > 0]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        model = models.BPE(vocabulary, pairs, ignore_merges=rule in _WHOLE_WORDS)
    except Exception:  # noqa: BLE001 - the library raises nothing else
        return None
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return TokenCounter(tokenizer, max(map(len, tokens), default=1))
