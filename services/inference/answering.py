"""One answer: from a conversation to a prompt, to Triton, and back as the contract's events."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeAlias

from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.deadline import Deadline
from services.common.errors import MycelError
from services.inference.conversation import refuse_unsupported, template_messages
from services.inference.deltas import DeltaMaker
from services.inference.models import LocalModel
from services.inference.pieces import Piece
from services.inference.prompt import Prompt
from services.inference.sampling import sampling_parameters
from services.inference.token_count import TokenCounter
from services.inference.tools import ToolUse, tool_use
from services.inference.triton_client import TritonClient, TritonRequest
from services.inference.triton_errors import too_long

_COUNTED_BYTES: Final = 262_144
"""A prompt longer than this is not counted when it is too long anyway."""

Event: TypeAlias = completion.CompletionStarted | chat.ChoiceDelta | completion.CompletionCompleted


@dataclass(slots=True)
class AnswerFacts:
    """What is known about an answer when it ends, for its span. No text."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    first_piece_seconds: float | None = None


class Answering:
    """Answers conversations with local models."""

    def __init__(self, client: TritonClient, executor: Executor) -> None:
        self._client = client
        self._executor = executor

    async def stream(
        self,
        model: LocalModel,
        asked: completion.StreamCompletionRequest,
        tenant: str,
        deadline: Deadline,
        facts: AnswerFacts,
    ) -> AsyncGenerator[Event, None]:
        """Streams an answer: `started`, deltas, `completed`. Closing the generator stops the generation.

        Args:
            model: who answers.
            asked: the conversation and how to answer it, or how to go on with an answer.
            tenant: for whom.
            deadline: when the call must be done.
            facts: filled in as the answer goes on.

        Raises:
            MycelError: the input is refused, or the model cannot answer.
        """
        started_at = time.monotonic()
        request, tools = await self._prepared(model, asked, deadline)
        async with model.admission.place(tenant), aclosing(self._client.stream(request)) as pieces:
            deltas = DeltaMaker(tools)
            async for piece in pieces:
                if facts.first_piece_seconds is None:
                    facts.first_piece_seconds = time.monotonic() - started_at
                    yield _started(model, request, continues=bool(asked.continue_after))
                _count(facts, piece)
                delta = deltas.make(piece)
                if delta is not None:
                    yield delta
        yield _completed(model, facts)

    async def _prepared(
        self, model: LocalModel, asked: completion.StreamCompletionRequest, deadline: Deadline
    ) -> tuple[TritonRequest, ToolUse]:
        """Checks what is asked, and makes of it what Triton is asked. Whatever can be refused is refused here."""
        template = model.ready_template()
        refuse_unsupported(asked.input)
        tools = tool_use(asked.input, takes_tools=template.takes_tools)
        sampling = sampling_parameters(asked.input, model.context_tokens, template.facts.sampling) | tools.sampling()
        messages = template_messages(asked.input, takes_tools=template.takes_tools)
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(
            self._executor, template.render, messages, tools.tools, asked.continue_after
        )
        await loop.run_in_executor(self._executor, refuse_too_long, model, prompt, template.facts.counter)
        request = TritonRequest(
            request_id=uuid.uuid4().hex,
            model=model.name,
            triton_model=model.triton_name,
            prompt=prompt,
            sampling=sampling,
            deadline=deadline,
            idle_seconds=model.idle_seconds,
            inputs=model.inputs,
            schema_field="tools" if tools.forced else "response_format",
        )
        return request, tools


def refuse_too_long(model: LocalModel, prompt: Prompt, counter: TokenCounter | None) -> None:
    """Refuses a prompt that leaves no room for an answer. Not for the event loop: counting takes milliseconds.

    Raises:
        MycelError: CONTEXT_TOO_LONG, with the counts.
    """
    limit = model.context_tokens
    if counter is None or counter.most(prompt.parts) < limit:
        return
    least = counter.least(prompt.parts)
    if least >= limit and counter.most(prompt.parts) > _COUNTED_BYTES:
        raise too_long(str(least), str(limit), model.name, "at least ")
    if prompt.crafted and "prompt_parts" not in model.inputs:
        return  # what is sent is spelled otherwise: the engine counts
    tokens = counter.count(prompt.parts)
    if tokens >= limit:
        raise too_long(str(tokens), str(limit), model.name)


def _started(model: LocalModel, request: TritonRequest, *, continues: bool) -> completion.CompletionStarted:
    return completion.CompletionStarted(
        provider=model.config.provider,
        upstream_model=request.triton_model,
        upstream_id=request.request_id,
        continues_exactly=continues,
    )


def _count(facts: AnswerFacts, piece: Piece) -> None:
    facts.prompt_tokens = piece.prompt_tokens
    facts.cached_tokens = piece.cached_tokens
    facts.completion_tokens += piece.new_tokens
    facts.finish_reason = piece.finish_reason


def _completed(model: LocalModel, facts: AnswerFacts) -> completion.CompletionCompleted:
    if not facts.finish_reason:
        why = f"{model.name}: the answer ended without a reason"
        raise MycelError(ErrorReason.ERROR_REASON_BACKEND_MALFORMED, why, metadata={"model": model.name})
    usage = chat.Usage(
        prompt_tokens=facts.prompt_tokens,
        completion_tokens=facts.completion_tokens,
        cached_prompt_tokens=facts.cached_tokens,
    )
    return completion.CompletionCompleted(usage=usage)
