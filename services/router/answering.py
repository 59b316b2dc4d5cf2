"""Streams an answer from models, whatever happens to them: begun by the first that can, and carried on by the next.

A provider that fails after it began is replaced, when the configuration says `continue`: the next candidate goes on
after the text that the caller has. That is possible for one answer of text; a tool call is never continued inside.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.config import ReliabilityConfig
from services.common.deadline import Deadline
from services.common.errors import MycelError
from services.router.asking import Asker, Record
from services.router.attempt import Attempt
from services.router.catalogue import Candidate
from services.router.stitch import Stitcher


@dataclass(frozen=True, slots=True)
class Began:
    """A model begins to answer; always first."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete; always last."""

    candidate: Candidate
    """Who ended it."""
    usage: chat.Usage
    cost_usd: float
    """Over all the models that took part; what a failed one used is estimated at a token a piece."""
    whole: bool
    """Whether no model failed on the way. A joined answer is not kept for others."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """Another model begins from the start: the pieces so far are void. Only for answers that are given whole."""


Event: TypeAlias = Began | Restarted | chat.ChoiceDelta | chat_service.ProviderSwitched | Ended


@dataclass(slots=True)
class _Progress:
    """What the caller has of an answer."""

    pieces: list[str] = field(default_factory=list)
    carried: int = 0
    """How many of the pieces came from models that failed."""
    carried_cost_usd: float = 0.0
    calls_tools: bool = False
    finished: bool = False
    switches: int = 0
    """How many models failed."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, delta: chat.ChoiceDelta) -> None:
        """Takes in a piece that the caller gets; a piece is about a token."""
        if delta.text:
            self.pieces.append(delta.text)
        self.calls_tools = self.calls_tools or bool(delta.tool_calls)
        self.finished = self.finished or bool(delta.finish_reason)

    def start_over(self) -> None:
        """What was sent is void, though it is paid for."""
        self.pieces.clear()
        self.carried = 0
        self.calls_tools = False

    def leave(self, candidate: Candidate) -> None:
        """A model failed: what it sent stays, and is paid for."""
        usage = chat.Usage(completion_tokens=len(self.pieces) - self.carried)
        self.carried_cost_usd += candidate.cost(usage)
        self.carried = len(self.pieces)
        self.switches += 1


class Answerer:
    """Answers calls from models."""

    def __init__(self, asker: Asker, config: ReliabilityConfig) -> None:
        self._asker = asker
        self._continues = config.on_stream_failure == "continue"
        self._most_turns = config.retry.rounds + 1
        self._stall_seconds = config.stall.total_seconds()

    async def answer(
        self,
        value: chat.ChatInput,
        candidates: Sequence[Candidate],
        deadline: Deadline,
        record: Record,
        *,
        restarts: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """Streams an answer: `Began`, deltas and switches, `Ended`.

        Args:
            value: what is asked.
            candidates: whom to ask, in order.
            deadline: the caller's.
            record: takes in what was tried.
            restarts: whether an answer that cannot be carried on may begin again (`Restarted`), because the caller has
                nothing of it yet.

        Raises:
            MycelError: nobody began to answer, or the answer broke off and could not be continued.
        """
        progress = _Progress()
        stitcher = Stitcher("")
        attempt, _ = await self._asker.begin(_request(value, progress), candidates, deadline, record)
        try:
            yield Began(attempt.candidate)
            while True:
                try:
                    event = await attempt.next(self._stall_seconds)
                except MycelError as error:
                    if progress.finished and value.parameters.n <= 1:
                        # Only the count of tokens is missing.
                        yield _ended(attempt.candidate, chat.Usage(completion_tokens=len(progress.pieces)), progress)
                        return
                    await attempt.aclose()
                    record.fail(attempt.candidate, error)
                    self._leave(attempt.candidate, value, error, progress, restarts=restarts)
                    attempt, first = await self._carry_on(
                        value, candidates, attempt.candidate, error, deadline, record, progress
                    )
                    if restarts and not progress.pieces:
                        yield Restarted()
                    stitcher = Stitcher("" if first.started.continues_exactly else progress.text)
                    yield _switched(attempt.candidate, error)
                    continue
                if event.HasField("completed"):
                    yield _ended(attempt.candidate, event.completed.usage, progress)
                    return
                delta = _stitched(event.delta, stitcher)
                progress.add(delta)
                yield delta
        finally:
            await attempt.aclose()

    def _leave(
        self, failed: Candidate, value: chat.ChatInput, error: MycelError, progress: _Progress, *, restarts: bool
    ) -> None:
        """Keeps what a failed model sent, or drops it when nobody can go on after it and the caller has none of it.

        Raises:
            MycelError: the failure itself, when it is not to be hidden.
        """
        joined = self._continues and _can_be_joined(value) and not progress.calls_tools
        if not error.meaning.failover or not (joined or restarts):
            raise error
        progress.leave(failed)
        if not joined:
            progress.start_over()

    async def _carry_on(
        self,
        value: chat.ChatInput,
        candidates: Sequence[Candidate],
        failed: Candidate,
        error: MycelError,
        deadline: Deadline,
        record: Record,
        progress: _Progress,
    ) -> tuple[Attempt, completion.StreamCompletionResponse]:
        """Begins the rest of an answer with another model, the failed one last.

        Raises:
            MycelError: the failure itself, when nobody can go on.
        """
        # Models that all die after a few words would otherwise go on like that for ever.
        if progress.switches > len(candidates) * self._most_turns:
            raise error
        others = [other for other in candidates if other != failed]
        try:
            return await self._asker.begin(_request(value, progress), [*others, failed], deadline, record)
        except MycelError:
            raise error from None


def _can_be_joined(value: chat.ChatInput) -> bool:
    """Tells whether two models can make one answer: one text, without facts about tokens, and not held to JSON.

    A model that is held to JSON begins a new document, whatever it is told.
    """
    held = value.response_format.WhichOneof("format") in ("json_object", "json_schema")
    return value.parameters.n <= 1 and not value.parameters.logprobs and not held


def _request(value: chat.ChatInput, progress: _Progress) -> Callable[[Candidate], completion.StreamCompletionRequest]:
    """Makes what a candidate is asked: the whole answer, or the rest of one."""
    rest = value
    if progress.pieces and value.parameters.HasField("max_tokens"):
        rest = chat.ChatInput()
        rest.CopyFrom(value)
        rest.parameters.max_tokens = max(value.parameters.max_tokens - len(progress.pieces), 1)
    text = progress.text
    return lambda candidate: completion.StreamCompletionRequest(model=candidate.model, input=rest, continue_after=text)


def _stitched(delta: chat.ChoiceDelta, stitcher: Stitcher) -> chat.ChoiceDelta:
    """Cuts off what the delta repeats; at the end of the answer nothing is held back any more."""
    text = stitcher.add(delta.text) if delta.text else ""
    if delta.finish_reason:
        text += stitcher.finish()
    if text == delta.text:
        return delta
    cut = chat.ChoiceDelta()
    cut.CopyFrom(delta)
    cut.text = text
    return cut


def _switched(candidate: Candidate, error: MycelError) -> chat_service.ProviderSwitched:
    return chat_service.ProviderSwitched(model=candidate.model, provider=candidate.provider, reason=error.reason_name)


def _ended(candidate: Candidate, usage: chat.Usage, progress: _Progress) -> Ended:
    """Adds up: the prompt once, and all the tokens of the answer, whoever made them."""
    total = chat.Usage()
    total.CopyFrom(usage)
    total.completion_tokens += progress.carried
    cost = candidate.cost(usage) + progress.carried_cost_usd
    return Ended(candidate, total, cost, whole=not progress.switches)
