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
    ) -> None:
        """Begins a call; nothing is sent before the first `next`.

        Args:
            candidate: who is asked.
            backend: the service that asks it.
            request: what is asked.
            seconds: what is left of the caller's time.
            board: where is learned what the call tells.
        """
        self.candidate = candidate
        self.continues = bool(request.continue_after)
        self._board = board
        self._breaker = board.breaker(candidate)
        self._probe = self._breaker.begin()
        self._settled = False
        self._begun_at = board.clock()
        self._first = True
        self._stream = backend.stream(request, seconds)

    async def next(self, stall_seconds: float | None = None) -> completion.StreamCompletionResponse:
        """Gives the next event; `completed` is the last one.

        Raises:
            MycelError: the call failed, or fell silent for `stall_seconds`.
        """
        try:
            async with asyncio.timeout(stall_seconds):
                event = await anext(self._stream)
        except TimeoutError:
            raise self._failed(_broken(self.candidate, "fell silent")) from None
        except StopAsyncIteration:
            raise self._failed(_broken(self.candidate, "ended its answer too early")) from None
        except MycelError as error:
            raise self._failed(error) from None
        self._note(event)
        return event

    async def aclose(self) -> None:
        """Ends the call; one that is not done tells nothing of the provider."""
        if not self._settled:
            self._settled = True
            self._breaker.forget(probe=self._probe)
        await self._stream.aclose()

    def _note(self, event: completion.StreamCompletionResponse) -> None:
        if self._first:
            self._first = False
            self._board.note_first_token(self.candidate, self._board.clock() - self._begun_at)
            if self._probe:
                # A provider that begins to answer is back; waiting for the end of its answer would keep others away.
                self._breaker.succeed(probe=True)
                self._probe = False
        if event.HasField("completed") and not self._settled:
            self._settled = True
            self._breaker.succeed(probe=self._probe)

    def _failed(self, error: MycelError) -> MycelError:
        if not self._settled:
            self._settled = True
            if error.meaning.provider_fault:
                self._board.note_failure(self.candidate, error)
                self._breaker.fail(probe=self._probe, retry_after=error.retry_after)
            else:
                self._breaker.forget(probe=self._probe)
        return error


def _broken(candidate: Candidate, told: str) -> MycelError:
    return MycelError(
        ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE,
        f"{candidate.provider}: {told}",
        metadata={"provider": candidate.provider},
    )
