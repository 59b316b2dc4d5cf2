"""Asks the candidates of a call until one begins to answer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.deadline import Deadline
from services.common.errors import MycelError
from services.router.attempt import Attempt
from services.router.catalogue import Candidate
from services.router.ports import BackendPort
from services.router.reliability.board import Board

_log = logging.getLogger(__name__)

Request = Callable[[Candidate], completion.StreamCompletionRequest]


@dataclass(slots=True)
class Record:
    """The attempts of one call."""

    tenant: str = ""
    """For whom."""
    begun: int = 0
    failures: dict[str, MycelError] = field(default_factory=dict)
    """The last failure of each model that was asked."""

    def fail(self, candidate: Candidate, error: MycelError) -> None:
        """Remembers a failure, and tells the operator of those that only he can end."""
        self.failures[candidate.model] = error
        paged = error.reason == ErrorReason.ERROR_REASON_BACKEND_AUTH
        _log.log(
            logging.ERROR if paged else logging.INFO,
            "%s failed: %s",
            candidate.model,
            error.reason_name,
            extra={"model": candidate.model, "provider": candidate.provider, "reason": error.reason_name},
        )


class Asker:
    """Asks candidates in order; moves on when one fails, or (hedging) when one is slow to begin."""

    def __init__(self, backends: Mapping[str, BackendPort], board: Board) -> None:
        self._backends = backends
        self._board = board

    async def begin(
        self, request: Request, candidates: Sequence[Candidate], deadline: Deadline, record: Record
    ) -> tuple[Attempt, completion.StreamCompletionResponse]:
        """Gives the first attempt that begins to answer, and its first event; the others are ended.

        Candidates whose breaker is open are passed over. When all fail in a way that may pass, they are asked again
        after a wait (full jitter, or the shortest Retry-After), within the retry budget and the caller's deadline.

        Args:
            request: makes what a candidate is asked.
            candidates: whom to ask, in order.
            deadline: the caller's.
            record: takes in what was tried.

        Raises:
            MycelError: nobody began to answer.
        """
        self._board.retries.first_call()
        self._board.hedges.first_call()
        retry = self._board.config.retry
        for round_ in range(retry.rounds + 1):
            admitted = [candidate for candidate in candidates if self._board.breaker(candidate).admits()]
            found = await self._round(request, admitted, deadline, record)
            if found is not None:
                return found
            wait = self._wait(round_, candidates, record)
            if wait is None or round_ == retry.rounds or wait >= deadline.left() or not self._board.retries.take():
                break
            await asyncio.sleep(wait)
        raise self._all_failed(candidates, record.failures)

    async def _round(
        self, request: Request, candidates: Sequence[Candidate], deadline: Deadline, record: Record
    ) -> tuple[Attempt, completion.StreamCompletionResponse] | None:
        """Asks each candidate once. None when none began to answer."""
        waiting = deque(candidates)
        running: dict[asyncio.Task[completion.StreamCompletionResponse], Attempt] = {}
        try:
            while self._drop_resting(waiting) or running:
                if not running:
                    self._start(waiting, request, deadline, record, running)
                slow_after = self._slow_after(running) if waiting else None
                done, _ = await asyncio.wait(running, timeout=slow_after, return_when=asyncio.FIRST_COMPLETED)
                if not done and self._drop_resting(waiting) and self._board.hedges.take():
                    self._start(waiting, request, deadline, record, running)
                    continue
                if not done:
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    attempt = running.pop(task)
                    error = task.exception()
                    if error is None:
                        return attempt, task.result()
                    await attempt.aclose()
                    self._after_failure(attempt.candidate, error, waiting, record)
            return None
        finally:
            await _end(running)

    def _drop_resting(self, waiting: deque[Candidate]) -> bool:
        """Tells whether somebody may be asked; drops the next ones whose breaker has opened in the meantime."""
        while waiting and not self._board.breaker(waiting[0]).admits():
            waiting.popleft()
        return bool(waiting)

    def _start(
        self,
        waiting: deque[Candidate],
        request: Request,
        deadline: Deadline,
        record: Record,
        running: dict[asyncio.Task[completion.StreamCompletionResponse], Attempt],
    ) -> None:
        """Asks the next one. While others wait, a silent one may not use up their share of the caller's time."""
        seconds = deadline.left()
        candidate = waiting.popleft()
        record.begun += 1
        backend = self._backends[candidate.backend]
        attempt = Attempt(candidate, backend, request(candidate), seconds, self._board, tenant=record.tenant)
        longest = self._board.config.first_token.total_seconds()
        patience = min(longest, seconds / 2) if waiting else None
        running[asyncio.create_task(attempt.begin(patience))] = attempt

    def _slow_after(self, running: dict[asyncio.Task[completion.StreamCompletionResponse], Attempt]) -> float:
        return self._board.slow_after(next(reversed(running.values())).candidate)

    def _after_failure(
        self, candidate: Candidate, error: BaseException, waiting: deque[Candidate], record: Record
    ) -> None:
        """Notes a failure, and ends the call when no other model can help."""
        if not isinstance(error, MycelError):
            raise error
        record.fail(candidate, error)
        if not error.meaning.failover:
            raise error
        if error.reason == ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG and candidate.context:
            # Only a longer context helps.
            longer = [other for other in waiting if not other.context or other.context > candidate.context]
            waiting.clear()
            waiting.extend(longer)

    def _wait(self, round_: int, candidates: Sequence[Candidate], record: Record) -> float | None:
        """Gives the seconds before the candidates are asked again; None when that would be in vain."""
        retry = self._board.config.retry
        failures = [record.failures[other.model] for other in candidates if other.model in record.failures]
        opens = [self._board.breaker(candidate).seconds_to_probe for candidate in candidates]
        if not any(error.meaning.provider_fault for error in failures) and not any(opens):
            return None
        longest = retry.longest.total_seconds()
        wait = max(random.uniform(0, min(retry.base.total_seconds() * 2.0**round_, longest)), min(opens, default=0.0))
        return wait if wait <= longest else None

    def _all_failed(self, candidates: Sequence[Candidate], failures: Mapping[str, MycelError]) -> MycelError:
        """Says what happened when nobody answered: the common reason, or each one's."""
        reasons = {
            candidate.model: failures[candidate.model].reason_name if candidate.model in failures else "BREAKER_OPEN"
            for candidate in candidates
        }
        if len(set(reasons.values())) == 1 and failures:
            return list(failures.values())[-1]
        opens = [self._board.breaker(candidate).seconds_to_probe for candidate in candidates]
        told = "; ".join(f"{model}: {why}" for model, why in reasons.items())
        return MycelError(
            ErrorReason.ERROR_REASON_NO_CANDIDATE,
            f"no model could answer: {told}",
            metadata=reasons,
            retry_after=min((seconds for seconds in opens if seconds > 0), default=None),
        )


async def _end(running: Mapping[asyncio.Task[completion.StreamCompletionResponse], Attempt]) -> None:
    """Ends the attempts that came too late."""
    for task in running:
        task.cancel()
    for task, attempt in running.items():
        with suppress(asyncio.CancelledError, MycelError):
            await task
        await attempt.aclose()
