"""One call of a model, from its beginning to its end, and what it tells of the provider."""

from __future__ import annotations

import asyncio

from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError
from services.router.catalogue import Candidate
from services.router.ports import BackendPort
from services.router.reliability.board import Board


class Attempt:
    """A call that has begun. It must be closed; what it told of its provider is settled once."""

    def __init__(
        self,
        candidate: Candidate,
        backend: BackendPort,
        request: completion.StreamCompletionRequest,
        seconds: float,
        board: Board,
        tenant: str,
    ) -> None:
        """Begins a call; nothing is sent before the first `next`.

        Args:
            candidate: who is asked.
            backend: the service that asks it.
            request: what is asked.
            seconds: what is left of the caller's time.
            board: where is learned what the call tells.
            tenant: for whom.
        """
        self.candidate = candidate
        self._board = board
        self._breaker = board.breaker(candidate)
        self._probe = self._breaker.begin()
        self._settled = False
        self._begun_at = board.clock()
        self._seconds = seconds
        self._silent = True
        self._ahead: completion.StreamCompletionResponse | None = None
        self._stream = backend.stream(request, seconds, tenant)

    async def begin(self, patience: float | None = None) -> completion.StreamCompletionResponse:
        """Waits until the model says something, which `next` then gives, and gives the event that opens the answer.

        Providers open an answer at once and think afterwards: only its first token shows that one will come.

        Args:
            patience: the most seconds to wait; None for as long as the caller does.

        Raises:
            MycelError: the call failed, or the model said nothing for too long.
        """
        if patience is not None:
            self._seconds = min(self._seconds, patience)
        try:
            async with asyncio.timeout(patience):
                opened = await self._receive()
                event = await self._receive()
                while not _says_something(event):
                    event = await self._receive()
        except TimeoutError:
            raise self._failed(_late(self.candidate)) from None
        self._ahead = event
        self._note_first_token()
        return opened

    async def next(self, stall_seconds: float | None = None) -> completion.StreamCompletionResponse:
        """Gives the next event; `completed` is the last one.

        Raises:
            MycelError: the call failed, or fell silent for `stall_seconds`.
        """
        if self._ahead is not None:
            event, self._ahead = self._ahead, None
            return event
        try:
            async with asyncio.timeout(stall_seconds):
                return await self._receive()
        except TimeoutError:
            raise self._failed(_broken(self.candidate, "fell silent")) from None

    async def aclose(self) -> None:
        """Ends the call; one that is not done tells nothing of the provider, but that it was slow."""
        if not self._settled:
            self._settled = True
            self._breaker.forget(probe=self._probe)
            if self._silent and self._was_slow():
                self._board.note_first_token(self.candidate, self._waited())
        await self._stream.aclose()

    async def _receive(self) -> completion.StreamCompletionResponse:
        try:
            event = await anext(self._stream)
        except StopAsyncIteration:
            raise self._failed(_broken(self.candidate, "ended its answer too early")) from None
        except MycelError as error:
            raise self._failed(error) from None
        if event.HasField("completed") and not self._settled:
            self._settled = True
            self._breaker.succeed(probe=self._probe)
            self._probe = False
        return event

    def _note_first_token(self) -> None:
        self._silent = False
        self._board.note_first_token(self.candidate, self._waited())
        if self._probe:
            # A provider that begins to answer is back; waiting for the end of its answer would keep others away.
            self._breaker.trust()
            self._probe = False

    def _waited(self) -> float:
        return self._board.clock() - self._begun_at

    def _was_slow(self) -> bool:
        longest = self._board.config.first_token.total_seconds()
        return self._waited() >= min(self._board.slow_after(self.candidate), longest)

    def _tells_of_provider(self, error: MycelError) -> bool:
        """A caller's own haste must open nobody's breaker: time that ran out counts once the provider was slow.

        Nor must a tenant that had its share of a queue: there is room for the others.
        """
        if error.metadata.get("scope") == "tenant":
            return False
        ran_out = error.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED and self._waited() >= self._seconds * 0.95
        return error.meaning.provider_fault and (not ran_out or (self._silent and self._was_slow()))

    def _failed(self, error: MycelError) -> MycelError:
        if not self._settled:
            self._settled = True
            if self._tells_of_provider(error):
                self._board.note_failure(self.candidate, error)
                self._breaker.fail(probe=self._probe, retry_after=error.retry_after)
            else:
                self._breaker.forget(probe=self._probe)
        return error


def _says_something(event: completion.StreamCompletionResponse) -> bool:
    delta = event.delta
    said = delta.text or delta.refusal or delta.tool_calls or delta.logprobs or delta.finish_reason
    return event.HasField("completed") or bool(said)


def _late(candidate: Candidate) -> MycelError:
    return MycelError(
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        f"{candidate.provider}: did not begin to answer in time",
        metadata={"provider": candidate.provider},
    )


def _broken(candidate: Candidate, told: str) -> MycelError:
    return MycelError(
        ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE,
        f"{candidate.provider}: {told}",
        metadata={"provider": candidate.provider},
    )
