"""What is held in memory of the entries: who has which, how recently used, when they end; and the latest answers.

Used from the event loop only.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from services.cache.entries import EntryInfo


class Ledger:
    """Every entry's info, by id and by tenant."""

    def __init__(self) -> None:
        self._infos: dict[str, EntryInfo] = {}
        self._tenants: dict[str, OrderedDict[str, None]] = {}
        self._ends: list[tuple[int, str]] = []
        self._answer_bytes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._infos)

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._infos

    def put(self, info: EntryInfo) -> None:
        """Adds an entry as the tenant's latest used, in place of the one with the same id."""
        self.remove(info.id)
        self._infos[info.id] = info
        self._tenants.setdefault(info.tenant, OrderedDict())[info.id] = None
        self._answer_bytes[info.tenant] = self._answer_bytes.get(info.tenant, 0) + info.answer_bytes
        heapq.heappush(self._ends, (info.expires_at, info.id))

    def get(self, entry_id: str) -> EntryInfo | None:
        """Gives an entry, ended ones too."""
        return self._infos.get(entry_id)

    def remove(self, entry_id: str) -> EntryInfo | None:
        """Removes an entry and gives it; None when it is not there."""
        info = self._infos.pop(entry_id, None)
        if info is not None:
            # Its place among the ends is found stale when its time comes.
            self._answer_bytes[info.tenant] -= info.answer_bytes
            mine = self._tenants[info.tenant]
            del mine[entry_id]
            if not mine:
                del self._tenants[info.tenant], self._answer_bytes[info.tenant]
        return info

    def touch(self, info: EntryInfo) -> None:
        """Makes an entry its tenant's latest used."""
        self._tenants[info.tenant].move_to_end(info.id)

    def of_tenant(self, tenant: str) -> Iterator[EntryInfo]:
        """Gives a tenant's entries, the longest unused first."""
        for entry_id in self._tenants.get(tenant, ()):
            yield self._infos[entry_id]

    def count(self, tenant: str = "") -> int:
        """Counts a tenant's entries, or everybody's."""
        return len(self._tenants.get(tenant, ())) if tenant else len(self._infos)

    def answer_bytes(self, tenant: str = "") -> int:
        """Sums up the sizes of a tenant's answers, or everybody's."""
        return self._answer_bytes.get(tenant, 0) if tenant else sum(self._answer_bytes.values())

    def surplus(self, tenant: str, limit: int) -> list[str]:
        """Gives the tenant's longest unused entries beyond `limit`."""
        mine = self._tenants.get(tenant, ())
        excess = len(mine) - limit
        return [entry_id for _, entry_id in zip(range(excess), mine, strict=False)]

    def order_by_age(self) -> None:
        """Makes age stand for use, for entries that were read from the store in no order."""
        for tenant, mine in self._tenants.items():
            ordered = sorted(mine, key=lambda entry_id: self._infos[entry_id].created_at)
            self._tenants[tenant] = OrderedDict.fromkeys(ordered)

    def ended(self, now: int, limit: int) -> list[str]:
        """Gives entries that end at `now` or before, at most `limit`; each is given once."""
        ended: list[str] = []
        while self._ends and self._ends[0][0] <= now and len(ended) < limit:
            end, entry_id = heapq.heappop(self._ends)
            info = self._infos.get(entry_id)
            if info is not None and info.expires_at == end:
                ended.append(entry_id)
        return ended


class RecentAnswers:
    """The answers used last, within a number of bytes."""

    def __init__(self, capacity: int) -> None:
        """Makes an empty one.

        Args:
            capacity: the most bytes to hold; a larger answer is not held.
        """
        self._capacity = capacity
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def put(self, entry_id: str, answer: bytes) -> None:
        """Holds an answer, and lets go of the longest unused ones beyond the capacity."""
        self.remove(entry_id)
        if len(answer) > self._capacity:
            return
        self._answers[entry_id] = answer
        self._bytes += len(answer)
        while self._bytes > self._capacity:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest)

    def get(self, entry_id: str) -> bytes | None:
        """Gives an answer, if it is held."""
        answer = self._answers.get(entry_id)
        if answer is not None:
            self._answers.move_to_end(entry_id)
        return answer

    def remove(self, entry_id: str) -> None:
        """Lets go of an answer, if it is held."""
        answer = self._answers.pop(entry_id, None)
        if answer is not None:
            self._bytes -= len(answer)
