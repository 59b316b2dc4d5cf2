"""Puts a streamed answer together, and takes a whole one apart again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from mycel.chat.v1 import types_pb2 as chat

_CHUNK: Final = re.compile(r"\s*\S+\s*", re.DOTALL)
_WORDS_PER_CHUNK: Final = 4


class Accumulator:
    """Collects the deltas of an answer into choices."""

    def __init__(self) -> None:
        self._choices: dict[int, chat.Choice] = {}
        self._text: dict[int, list[str]] = {}
        self._calls: dict[tuple[int, int], chat.ToolCall] = {}
        self._arguments: dict[tuple[int, int], list[str]] = {}

    def add(self, delta: chat.ChoiceDelta) -> None:
        """Takes in the next delta."""
        choice = self._choices.setdefault(
            delta.index, chat.Choice(index=delta.index, message=chat.Message(role=chat.ROLE_ASSISTANT))
        )
        if delta.text:
            self._text.setdefault(delta.index, []).append(delta.text)
        if delta.refusal:
            choice.message.refusal += delta.refusal
        choice.logprobs.extend(delta.logprobs)
        for piece in delta.tool_calls:
            place = (delta.index, piece.index)
            call = self._calls.setdefault(place, chat.ToolCall())
            call.id = call.id or piece.id
            call.name = call.name or piece.name
            self._arguments.setdefault(place, []).append(piece.arguments_json)
        if delta.finish_reason:
            choice.finish_reason = delta.finish_reason

    def choices(self) -> list[chat.Choice]:
        """Gives the answers so far, by index."""
        finished = []
        for index in sorted(self._choices):
            choice = chat.Choice()
            choice.CopyFrom(self._choices[index])
            text = "".join(self._text.get(index, ()))
            if text:
                choice.message.content.add(text=text)
            for place in sorted(place for place in self._calls if place[0] == index):
                call = chat.ToolCall(arguments_json="".join(self._arguments[place]))
                call.id, call.name = self._calls[place].id, self._calls[place].name
                choice.message.tool_calls.append(call)
            finished.append(choice)
        return finished


def replay(choices: Iterable[chat.Choice]) -> Iterator[chat.ChoiceDelta]:
    """Streams stored answers: text in chunks of a few words, then the calls, then the end of each answer.

    Put together again, the deltas give the same choices.
    """
    for choice in choices:
        text = "".join(part.text for part in choice.message.content)
        yield from (chat.ChoiceDelta(index=choice.index, text=chunk) for chunk in _chunks(text))
        yield chat.ChoiceDelta(
            index=choice.index,
            refusal=choice.message.refusal,
            logprobs=choice.logprobs,
            tool_calls=[
                chat.ToolCallDelta(index=place, id=call.id, name=call.name, arguments_json=call.arguments_json)
                for place, call in enumerate(choice.message.tool_calls)
            ],
            finish_reason=choice.finish_reason,
        )


def _chunks(text: str) -> Iterator[str]:
    words = _CHUNK.findall(text) or ([text] if text else [])
    for start in range(0, len(words), _WORDS_PER_CHUNK):
        yield "".join(words[start : start + _WORDS_PER_CHUNK])
