"""From the engine's pieces to the contract's deltas."""

from __future__ import annotations

from typing import Final

from mycel.chat.v1 import types_pb2 as chat

from services.inference.pieces import Piece, TokenFact, TokenRecord
from services.inference.tool_calls import Call, Part, ToolCallReader
from services.inference.tools import ToolUse

_FINISH_REASONS: Final = {"stop": chat.FINISH_REASON_STOP, "length": chat.FINISH_REASON_LENGTH}


class DeltaMaker:
    """Makes the deltas of one answer."""

    def __init__(self, tools: ToolUse) -> None:
        self._reader = ToolCallReader(tools.names)
        self._one_call = tools.one_call
        self._calls = 0

    def make(self, piece: Piece) -> chat.ChoiceDelta | None:
        """Gives a piece's delta; None when nothing in it is for the caller yet."""
        parts = self._reader.feed(piece.text)
        if piece.finish_reason:
            parts += self._reader.finish()
        delta = chat.ChoiceDelta(
            text="".join(part for part in parts if isinstance(part, str)),
            tool_calls=self._tool_calls(parts),
            logprobs=[_token_logprob(record) for record in piece.logprobs],
        )
        if piece.finish_reason:
            delta.finish_reason = self._finish_reason(piece.finish_reason)
        return delta if delta.text or delta.tool_calls or delta.logprobs or piece.finish_reason else None

    def _tool_calls(self, parts: list[Part]) -> list[chat.ToolCallDelta]:
        deltas = []
        for part in parts:
            if isinstance(part, Call) and not (self._one_call and self._calls):
                delta = chat.ToolCallDelta(id=part.id, name=part.name, arguments_json=part.arguments_json)
                delta.index = self._calls
                self._calls += 1
                deltas.append(delta)
        return deltas

    def _finish_reason(self, reason: str) -> chat.FinishReason.ValueType:
        if self._calls and reason == "stop":
            return chat.FINISH_REASON_TOOL_CALLS
        return _FINISH_REASONS.get(reason, chat.FINISH_REASON_STOP)


def _token_logprob(record: TokenRecord) -> chat.TokenLogprob:
    sampled = record.sampled
    return chat.TokenLogprob(
        token=sampled.text,
        logprob=sampled.logprob,
        token_bytes=sampled.raw,
        top=[_top_logprob(token) for token in record.top],
    )


def _top_logprob(token: TokenFact) -> chat.TopLogprob:
    return chat.TopLogprob(token=token.text, logprob=token.logprob, token_bytes=token.raw)
