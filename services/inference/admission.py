"""Lets calls to a model in: so many at once, so many waiting, and no tenant at the cost of the others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError

_FIRST_GUESS_SECONDS: Final = 1.0
"""How long a call takes, before one has ended."""
_NEWEST_SHARE: Final = 0.2
"""How much the last call counts in the mean of their times."""
_SHORTEST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 60.0

_Waiting = asyncio.Future[None]


class Admission:
    """The places of one model. Only for one event loop.

    A place that comes free goes to the tenant that has the fewest, and in turns among equals. When the queue is full, a
    tenant with fewer calls in it takes the place of the newest call of the one with the most.
    """

    def __init__(self, model: str, places: int, room: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes the places of a model.

        Args:
            model: its name in the mesh, for errors.
            places: how many calls run at the same time.
            room: how many may wait.
            clock: seconds.
        """
        self._model = model
        self._places = places
        self._room = room
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._mean_seconds = _FIRST_GUESS_SECONDS

    @property
    def running(self) -> int:
        """How many calls run."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a place, and gives it back on leaving.

        Raises:
            MycelError: OVERLOADED, when the queue is full, or when a tenant with fewer calls took this one's place in
                it. `retry_after` is an estimate of when there will be room.
        """
        await self._enter(tenant)
        begun_at = self._clock()
        try:
            yield
        finally:
            taken = self._clock() - begun_at
            self._mean_seconds += (taken - self._mean_seconds) * _NEWEST_SHARE
            self._leave(tenant)

    async def _enter(self, tenant: str) -> None:
        if self.running < self._places and not self._waiting:
            self._running[tenant] += 1
            return
        if self.waiting >= self._room:
            self._make_room(tenant)
        future: _Waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._leave(tenant)  # the place came when nobody wanted it any more
            else:
                self._forget(tenant, future)
            raise

    def _leave(self, tenant: str) -> None:
        self._running[tenant] -= 1
        self._running += Counter()  # drops tenants without calls
        while self._waiting and self.running < self._places:
            following = min(self._waiting, key=lambda waiting: self._running[waiting])
            future = self._waiting[following].popleft()
            self._waiting.move_to_end(following)
            if not self._waiting[following]:
                del self._waiting[following]
            if not future.done():
                self._running[following] += 1
                future.set_result(None)

    def _make_room(self, tenant: str) -> None:
        """Refuses the newest call of the tenant that waits with the most, or else this one."""
        most = max(self._waiting, key=lambda waiting: len(self._waiting[waiting]), default=tenant)
        full = self._full(greedy=len(self._waiting.get(most, ())) > 1)
        if len(self._waiting.get(most, ())) <= len(self._waiting.get(tenant, ())) + 1:
            raise full
        newest = self._waiting[most].pop()
        if not newest.done():
            newest.set_exception(full)

    def _forget(self, tenant: str, future: _Waiting) -> None:
        queue = self._waiting.get(tenant)
        if queue and future in queue:
            queue.remove(future)
        if not queue:
            self._waiting.pop(tenant, None)

    def _full(self, *, greedy: bool) -> MycelError:
        """Says that there is no room, and whether it is this tenant's own doing: others might still get in."""
        waiting = self.waiting
        seconds = (waiting + 1) * self._mean_seconds / self._places
        return MycelError(
            ErrorReason.ERROR_REASON_OVERLOADED,
            f"{self._model}: {self.running} calls are in progress and {waiting} wait",
            metadata={"model": self._model, **({"scope": "tenant"} if greedy else {})},
            retry_after=min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS),
        )
