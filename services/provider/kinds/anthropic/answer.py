"""Reads the events of Anthropic's streams as those of the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from anthropic.types import RawMessageStreamEvent
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.provider.kinds.anthropic.wire import JSON_TOOL

Piece: TypeAlias = completion.CompletionStarted | chat.ChoiceDelta

_FINISH: Final = {
    "end_turn": chat.FINISH_REASON_STOP,
    "stop_sequence": chat.FINISH_REASON_STOP,
    "max_tokens": chat.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": chat.FINISH_REASON_LENGTH,
    "tool_use": chat.FINISH_REASON_TOOL_CALLS,
    "refusal": chat.FINISH_REASON_CONTENT_FILTER,
}


class Answer:
    """One answer as it comes in."""

    def __init__(self, provider: str, asked: str, *, json_tool: bool, given_space: str) -> None:
        """Makes a reader.

        Args:
            provider: the provider's name in the mesh.
            asked: the provider's name of the model that was asked.
            json_tool: whether calls of JSON_TOOL are the answer's text.
            given_space: space that ended the prefix; where the answer repeats it, it is left out.
        """
        self._provider = provider
        self._asked = asked
        self._json_tool = json_tool
        self._given_space = given_space
        self._calls: dict[int, int] = {}
        """The place among the calls of each block that is one."""
        self._json_blocks: set[int] = set()
        self._silent: set[int] = set()
        """Blocks of calls whose arguments have not begun."""
        self._counts: dict[str, int] = {}

    def read(self, event: RawMessageStreamEvent) -> Iterator[Piece]:
        """Gives the contract's events for one of the API's; those of an unknown type are passed over."""
        match event.type:
            case "message_start":
                message = event.message
                self._count(message.usage)
                yield completion.CompletionStarted(
                    provider=self._provider, upstream_model=message.model or self._asked, upstream_id=message.id or ""
                )
            case "content_block_start":
                yield from self._begin(event.index, event.content_block)
            case "content_block_delta":
                yield from self._go_on(event.index, event.delta)
            case "content_block_stop":
                yield from self._end(event.index)
            case "message_delta":
                self._count(event.usage)
                if event.delta.stop_reason:
                    yield self._finish(event.delta)

    def completed(self) -> completion.CompletionCompleted:
        """Closes the answer."""
        cached = self._counts.get("cache_read_input_tokens", 0)
        prompt = self._counts.get("input_tokens", 0) + cached + self._counts.get("cache_creation_input_tokens", 0)
        usage = chat.Usage(
            prompt_tokens=prompt,
            completion_tokens=self._counts.get("output_tokens", 0),
            cached_prompt_tokens=cached,
            reasoning_tokens=self._counts.get("thinking_tokens", 0),
        )
        return completion.CompletionCompleted(usage=usage)

    def _begin(self, index: int, block: Any) -> Iterator[Piece]:
        if block.type == "text" and block.text:
            yield from self._text(block.text)
        if block.type != "tool_use":
            return
        if self._json_tool and block.name == JSON_TOOL:
            self._json_blocks.add(index)
            return
        self._calls[index] = len(self._calls)
        self._silent.add(index)
        yield self._call(index, id=block.id, name=block.name)
        if block.input:
            self._silent.discard(index)
            yield self._call(index, arguments_json=json.dumps(block.input))

    def _go_on(self, index: int, delta: Any) -> Iterator[Piece]:
        if delta.type == "text_delta":
            yield from self._text(delta.text)
        elif delta.type == "input_json_delta" and delta.partial_json:
            if index in self._json_blocks:
                yield chat.ChoiceDelta(text=delta.partial_json)
            elif index in self._calls:
                self._silent.discard(index)
                yield self._call(index, arguments_json=delta.partial_json)

    def _end(self, index: int) -> Iterator[Piece]:
        if index in self._silent:
            self._silent.discard(index)
            yield self._call(index, arguments_json="{}")

    def _text(self, text: str) -> Iterator[Piece]:
        if self._given_space:
            if text.startswith(self._given_space):
                text = text.removeprefix(self._given_space)
            self._given_space = ""
        if text:
            yield chat.ChoiceDelta(text=text)

    def _call(self, index: int, **piece: str) -> chat.ChoiceDelta:
        return chat.ChoiceDelta(tool_calls=[chat.ToolCallDelta(index=self._calls[index], **piece)])

    def _finish(self, delta: Any) -> chat.ChoiceDelta:
        reason = _FINISH.get(delta.stop_reason, chat.FINISH_REASON_STOP)
        if self._json_blocks and reason == chat.FINISH_REASON_TOOL_CALLS:
            reason = chat.FINISH_REASON_STOP
        details = getattr(delta, "stop_details", None)
        refusal = (details.explanation or "") if details is not None else ""
        return chat.ChoiceDelta(finish_reason=reason, refusal=refusal)

    def _count(self, usage: Any) -> None:
        """Takes in counts; each is of the whole answer so far, and a negative one is none."""
        if usage is None:
            return
        details = getattr(usage, "output_tokens_details", None)
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            told = getattr(usage, name, None)
            if told is not None:
                self._counts[name] = max(told, 0)
        if details is not None:
            self._counts["thinking_tokens"] = max(details.thinking_tokens or 0, 0)
