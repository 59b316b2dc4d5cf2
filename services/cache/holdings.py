"""All entries: durable in the store, their vectors and infos in memory, and the two kept in step.

At start the memory is filled from the store in the background. Until it is full, an entry that is not in memory is
looked for in the store: exact hits work from the first moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

from services.cache.embedder import Vector
from services.cache.entries import Entry, EntryInfo, Namespace
from services.cache.index import Neighbour, VectorIndex
from services.cache.journal import Change, Delete, Journal, Put
from services.cache.ledger import Ledger, RecentAnswers
from services.cache.store import Store
from services.cache.workers import Workers
from services.common.errors import MycelError

_log = logging.getLogger("mycel.cache.holdings")

_SWEEP_SECONDS: Final = 30.0
_SWEEP_MOST: Final = 1000
_FILL_RETRY_SECONDS: Final = 5.0
_FILL_SLICE: Final = 1024
"""Entries taken into memory before other calls get their turn."""

Clock = Callable[[], float]
"""Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is held."""

    entries_per_tenant: int
    """Beyond it the tenant's longest unused entries are removed."""
    recent_answer_bytes: int
    """Answers held in memory; the others are read from the store."""
    waiting_changes: int = 1024
    waiting_reads: int = 256


class Holdings:
    """Every entry that there is. Used from the event loop only, but for `nearest`."""

    def __init__(
        self, store: Store, *, dimensions: int, embedder_id: str, limits: Limits, clock: Clock = time.time
    ) -> None:
        self._store = store
        self._embedder_id = embedder_id
        self._limits = limits
        self._clock = clock
        self._index = VectorIndex(dimensions)
        self._recent = RecentAnswers(limits.recent_answer_bytes)
        self._journal = Journal(store, self._written, most_waiting=limits.waiting_changes)
        self._reads = Workers("read", threads=1, most_waiting=limits.waiting_reads)
        self._fills = Workers("fill", threads=1, most_waiting=1)
        self._filled = asyncio.Event()
        self._changed_while_filling: set[str] = set()
        self.ledger: Final = Ledger()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fills the memory in the background and keeps it tidy; on leaving, writes what was accepted."""
        writing = asyncio.create_task(self._journal.run(), name="cache-journal")
        others = [asyncio.create_task(self._fill(), name="cache-fill"), asyncio.create_task(self._sweep())]
        try:
            yield
        finally:
            await self._journal.close()
            for task in (writing, *others):
                task.cancel()
            await asyncio.gather(writing, *others, return_exceptions=True)
            self._reads.close()
            self._fills.close()

    @property
    def store_uri(self) -> str:
        """Where entries are kept, without secrets."""
        return self._store.uri

    @property
    def complete(self) -> bool:
        """Whether the memory holds every stored entry."""
        return self._filled.is_set()

    async def wait_complete(self) -> None:
        """Waits until the memory holds every stored entry."""
        await self._filled.wait()

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    def nearest(self, namespace: Namespace, vector: Vector, limit: int) -> list[Neighbour]:
        """Gives the nearest questions of a namespace; some may be gone or have ended. May be called on any thread."""
        return self._index.search(namespace, vector, limit)

    def info(self, entry_id: str) -> EntryInfo | None:
        """Gives an entry that is in memory and may be served."""
        info = self.ledger.get(entry_id)
        return info if info is not None and info.expires_at > self.now() else None

    async def find(self, tenant: str, entry_id: str) -> EntryInfo | None:
        """Gives a tenant's entry that may be served, from memory or, while that is being filled, from the store.

        Raises:
            MycelError: STORE_UNAVAILABLE.
        """
        info = self.info(entry_id)
        if info is None and not self.complete and entry_id not in self._changed_while_filling:
            entry = await self._reads.run(self._store.get, entry_id)
            if entry is not None and entry.info.expires_at > self.now():
                info = entry.info
                self._recent.put(entry_id, entry.answer)
        return info if info is not None and info.tenant == tenant else None

    async def answer(self, info: EntryInfo) -> bytes | None:
        """Gives an entry's answer, and makes the entry its tenant's latest used; None when it has gone meanwhile.

        Raises:
            MycelError: STORE_UNAVAILABLE.
        """
        answer = self._recent.get(info.id)
        if answer is None:
            entry = await self._reads.run(self._store.get, info.id)
            if entry is None or entry.info.tenant != info.tenant:
                return None
            answer = entry.answer
            self._recent.put(info.id, answer)
        if info.id in self.ledger:
            self.ledger.touch(info)
        return answer

    async def put(self, entry: Entry) -> None:
        """Keeps an entry; returns when it is durable.

        Raises:
            MycelError: STORE_UNAVAILABLE, OVERLOADED.
        """
        await self._journal.write(Put(entry))
        surplus = self.ledger.surplus(entry.info.tenant, self._limits.entries_per_tenant)
        if surplus:
            await self.remove(surplus)

    async def remove(self, ids: Iterable[str]) -> None:
        """Removes entries; returns when that is durable.

        Raises:
            MycelError: STORE_UNAVAILABLE, OVERLOADED.
        """
        await self._journal.write(Delete(tuple(ids)))

    def _written(self, change: Change) -> None:
        """Brings a change that the store has into memory."""
        if isinstance(change, Put):
            self._take(change.entry.info)
            self._recent.put(change.entry.info.id, change.entry.answer)
            namespace = change.entry.info.namespace
            if namespace is not None and change.entry.vector is not None:
                self._index.put(namespace, change.entry.info.id, change.entry.vector)
            return
        for entry_id in change.ids:
            self._forget(entry_id)

    def _take(self, info: EntryInfo) -> None:
        self.ledger.put(info)
        if not self.complete:
            self._changed_while_filling.add(info.id)

    def _forget(self, entry_id: str) -> None:
        info = self.ledger.remove(entry_id)
        self._recent.remove(entry_id)
        if info is not None and info.namespace is not None:
            self._index.remove(info.namespace, entry_id)
        if not self.complete:
            self._changed_while_filling.add(entry_id)

    async def _fill(self) -> None:
        begun = time.monotonic()
        while True:
            try:
                await self._fill_once()
                break
            except MycelError:
                _log.warning("the memory could not be filled from the store; trying again")
                await asyncio.sleep(_FILL_RETRY_SECONDS)
        self.ledger.order_by_age()
        self._filled.set()
        self._changed_while_filling.clear()
        _log.info("%d entries in memory after %.1f s", len(self.ledger), time.monotonic() - begun)

    async def _fill_once(self) -> None:
        pages = await self._fills.run(self._store.scan)
        while (page := await self._fills.run(next, pages, None)) is not None:
            rows = iter(page)
            while part := list(islice(rows, _FILL_SLICE)):
                fresh = [row for row in part if row[0].id not in self._changed_while_filling]
                for info, _, _ in fresh:
                    self.ledger.put(info)
                await self._fills.run(self._fill_index, fresh)
                for info, _, _ in fresh:
                    # Removed while its vector was being added.
                    if info.namespace is not None and info.id not in self.ledger:
                        self._index.remove(info.namespace, info.id)

    def _fill_index(self, rows: list[tuple[EntryInfo, Vector | None, str]]) -> None:
        for info, vector, embedder_id in rows:
            # Another embedder's vectors are not comparable: such an entry is found by the same request only.
            if info.namespace is not None and vector is not None and embedder_id == self._embedder_id:
                self._index.put(info.namespace, info.id, vector)

    async def _sweep(self) -> None:
        """Removes what has ended, every half minute."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            while ended := self.ledger.ended(self.now(), _SWEEP_MOST):
                try:
                    await self.remove(ended)
                except MycelError:
                    _log.warning("%d entries have ended but could not be removed", len(ended))
                    break
