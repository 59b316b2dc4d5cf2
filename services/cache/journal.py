"""Brings changes to the store, one batch at a time, in the order in which they came.

Changes that wait while one batch is written make the next one: the more there is to write, the less each costs. A
change is acknowledged when the store has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.cache.entries import Entry
from services.cache.store import Store
from services.cache.workers import Workers
from services.common.errors import MycelError, internal

_log = logging.getLogger("mycel.cache.journal")

_BATCH: Final = 64
"""The most changes written at once."""

_CLOSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Put:
    """An entry to keep."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Delete:
    """Entries to remove."""

    ids: tuple[str, ...]


Change: TypeAlias = Put | Delete


@dataclass(frozen=True, slots=True)
class _Pending:
    change: Change
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Journal:
    """The one writer to the store."""

    def __init__(self, store: Store, written: Callable[[Change], None], *, most_waiting: int) -> None:
        """Makes a journal; `run` has to be running for anything to be written.

        Args:
            store: where changes go.
            written: is called on the event loop for each change that the store has, in order.
            most_waiting: how many changes may wait; more are refused.
        """
        self._store = store
        self._written = written
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue(most_waiting)
        self._thread = Workers("write", threads=1, most_waiting=1)

    async def write(self, change: Change) -> None:
        """Writes a change; returns when the store has it. A change is written even when its caller goes away.

        Raises:
            MycelError: STORE_UNAVAILABLE when the store failed, OVERLOADED when too many changes wait.
        """
        pending = _Pending(change)
        try:
            self._queue.put_nowait(pending)
        except asyncio.QueueFull:
            reason = ErrorReason.ERROR_REASON_OVERLOADED
            raise MycelError(reason, "the cache has too many changes waiting", retry_after=1.0) from None
        await asyncio.shield(pending.done)

    async def run(self) -> None:
        """Writes changes until it is cancelled."""
        ahead: _Pending | None = None
        while True:
            batch = [ahead or await self._queue.get()]
            ahead = None
            while len(batch) < _BATCH and not self._queue.empty():
                following = self._queue.get_nowait()
                if type(following.change) is not type(batch[0].change):
                    ahead = following
                    break
                batch.append(following)
            await self._write_batch(batch)
            for _ in batch:
                self._queue.task_done()

    async def close(self) -> None:
        """Waits until every change that was accepted is written or has failed; not long for a store that is down."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._queue.join()
        except TimeoutError:
            _log.warning("%d changes were not written before the end", self._queue.qsize())
        self._thread.close()

    async def _write_batch(self, batch: list[_Pending]) -> None:
        failure: MycelError | None = None
        try:
            await self._thread.run(self._to_store, [pending.change for pending in batch])
            for pending in batch:
                self._written(pending.change)
        except MycelError as error:
            failure = error
        except Exception:  # noqa: BLE001 - a defect in one batch must not end the journal
            _log.exception("a batch of %d changes failed", len(batch))
            failure = internal()
        for pending in batch:
            _settle(pending.done, failure)

    def _to_store(self, changes: list[Change]) -> None:
        entries = {change.entry.info.id: change.entry for change in changes if isinstance(change, Put)}
        if entries:
            self._store.put(list(entries.values()))
        ids = [entry_id for change in changes if isinstance(change, Delete) for entry_id in change.ids]
        if ids:
            self._store.delete(ids)


def _settle(done: asyncio.Future[None], failure: MycelError | None) -> None:
    with suppress(asyncio.InvalidStateError):
        if failure is None:
            done.set_result(None)
            return
        done.set_exception(failure)
        done.exception()  # its caller may be gone: an exception that nobody reads is no cause for a warning
