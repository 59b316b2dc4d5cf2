"""Runs blocking calls on a few threads, with a bound on how many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Workers:
    """Threads for one kind of work."""

    def __init__(self, name: str, *, threads: int, most_waiting: int) -> None:
        """Starts no thread yet.

        Args:
            name: what the threads do; they carry it in their names.
            threads: how many calls run at the same time.
            most_waiting: how many calls may run or wait; more are refused.
        """
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"cache-{name}")
        self._most_waiting = most_waiting
        self._waiting = 0

    async def run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Runs a blocking call. When the awaiting task is cancelled before its turn, the call is not made.

        Raises:
            MycelError: OVERLOADED, when too many calls wait.
        """
        if self._waiting >= self._most_waiting:
            reason = ErrorReason.ERROR_REASON_OVERLOADED
            raise MycelError(reason, f"the cache has too many calls waiting ({self._name})", retry_after=1.0)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, partial(call, *args, **kwargs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for the calls that run, and drops those that wait."""
        self._executor.shutdown(wait=True, cancel_futures=True)
