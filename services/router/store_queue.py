"""Stores answers off the caller's path."""

from __future__ import annotations

import asyncio
import logging

from mycel.cache.v1 import cache_service_pb2 as cache
from opentelemetry import context as otel
from opentelemetry.context import Context

from services.common.errors import MycelError
from services.router.ports import CachePort

_log = logging.getLogger(__name__)


class StoreQueue:
    """Stores answers off the caller's path, in order, with a bound on how many wait."""

    def __init__(self, cache_port: CachePort, *, size: int = 1000) -> None:
        """Makes a queue.

        Args:
            cache_port: where answers are kept.
            size: how many may wait; a further one is dropped, with a log line.
        """
        self._cache = cache_port
        self._queue: asyncio.Queue[tuple[cache.StoreRequest, Context]] = asyncio.Queue(size)

    def put(self, request: cache.StoreRequest) -> None:
        """Takes an answer without waiting."""
        try:
            self._queue.put_nowait((request, otel.get_current()))
        except asyncio.QueueFull:
            _log.warning("an answer was not stored: the queue is full")

    async def run(self) -> None:
        """Stores until cancelled."""
        while True:
            request, trace = await self._queue.get()
            # The store belongs to the trace of the call that brought the answer, not to one of its own.
            token = otel.attach(trace)
            try:
                await self._cache.store(request)
            except MycelError as error:
                _log.warning("an answer was not stored: %s", error.reason_name, extra={"reason": error.reason_name})
            finally:
                otel.detach(token)
                self._queue.task_done()

    async def drain(self, seconds: float) -> None:
        """Waits until everything that was taken is stored, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            _log.warning("%d answers were not stored before the router stopped", self._queue.qsize())
