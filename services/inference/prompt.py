"""A rendered prompt, and how what people wrote is kept apart in it from what the template says."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

_ZERO_WIDTH_SPACE: Final = "\u200b"

PromptPart: TypeAlias = int | str
"""The id of a control token, or a text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is to go on from."""

    text: str
    """For engines that read text: a control token's spelling in a message is broken by a space of no width."""
    parts: tuple[PromptPart, ...]
    """The same, exactly: ids of control tokens, and texts that have none, each to be read by itself."""
    crafted: bool
    """Whether a message spelled a control token, so that `text` is not to the letter what was written."""


class PlainText:
    """Keeps the spelling of control tokens in messages from being taken for commands.

    A mark that nobody can guess goes into each such spelling before the template is rendered. Afterwards, whatever has
    none is a command of the template. The mark is made of digits, so that no filter of a template changes it.
    """

    def __init__(self, control_tokens: Mapping[str, int]) -> None:
        """Takes the model's control tokens and their ids."""
        self._ids = control_tokens
        self._mark = f"{secrets.randbits(128):039d}"
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._control = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    def marked(self, value: Any) -> Any:
        """Gives a value with its texts marked: a text, or lists and maps of them as in JSON."""
        if isinstance(value, str):
            return self._marked_text(value)
        if isinstance(value, list):
            return [self.marked(each) for each in value]
        if isinstance(value, dict):
            return {self.marked(key): self.marked(each) for key, each in value.items()}
        return value

    def prompt(self, rendered: str, *, bos: str, engine_adds_bos: bool) -> Prompt:
        """Makes a prompt of what a template rendered.

        Args:
            rendered: the template's text, with marks.
            bos: the text of the token that begins every prompt; empty for none.
            engine_adds_bos: whether the engine puts it in front of a text; it would be there twice.
        """
        if engine_adds_bos and bos:
            rendered = rendered.removeprefix(bos)
        parts = [*self._parts(rendered)]
        if engine_adds_bos and bos in self._ids:
            parts.insert(0, self._ids[bos])
        text = rendered.replace(self._mark, _ZERO_WIDTH_SPACE)
        return Prompt(text, tuple(parts), crafted=self._mark in rendered)

    def _parts(self, rendered: str) -> list[PromptPart]:
        pieces = self._control.split(rendered) if self._control else [rendered]
        parts: list[PromptPart] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                parts.append(self._ids[piece])
            else:
                parts.extend(text for text in piece.split(self._mark) if text)
        return parts

    def _marked_text(self, text: str) -> str:
        if self._control is None:
            return text
        broken = self._control.sub(lambda match: match[0][0] + self._mark + match[0][1:], text)
        # The beginning of a token at the end of a text could be completed by what the template puts after it.
        end = len(broken.rstrip())
        if any(broken.endswith(token[:length], 0, end) for token in self._ids for length in range(1, len(token))):
            return broken[:end] + self._mark + broken[end:]
        return broken
