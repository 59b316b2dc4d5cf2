"""The cache: looks answers up, keeps them, and lets go of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.chat.v1 import types_pb2 as chat
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.cache.canonical import CanonicalRequest, canonicalize
from services.cache.decision import Candidate, Decision, ThresholdRule
from services.cache.embedder import Embedder, Vector
from services.cache.entries import Entry, EntryInfo, Namespace, entry_id
from services.cache.holdings import Holdings
from services.cache.workers import Workers
from services.common.errors import MycelError, invalid

_CANDIDATES: Final = 4
"""How many near questions are looked at: the nearest may be refused by the guard where the next is right."""

_LONGEST_QUESTION: Final = 8192
"""Characters; a longer question is found by the same request only, however few tokens it has."""

_T = TypeVar("_T")

_UNIT_TOLERANCE: Final = 1e-3

Mode = Literal["off", "exact", "semantic", "refresh"]


@dataclass(frozen=True, slots=True)
class Key:
    """What must be equal for an answer to be shared, besides the conversation."""

    tenant: str
    scope: str
    model: str
    """The model or route that was asked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup found."""

    info: EntryInfo | None
    """The entry that is served; None for a miss."""
    answer: bytes
    """Its serialized answer; empty for a miss."""
    exact: bool
    reason: str
    """For a miss: why. Empty for a hit."""
    nearest: Candidate | None = None
    """The nearest stored question, when one was searched for and found."""
    vector: Vector | None = None
    """The question's vector, when it was made."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which of a tenant's entries are meant. None and empty mean any."""

    tenant: str
    scope: str | None = None
    ids: frozenset[str] = frozenset()
    model: str = ""
    older_than_ms: int | None = None


class AnswerCache:
    """The cache's operations. Used from the event loop."""

    def __init__(
        self,
        holdings: Holdings,
        embedder: Embedder,
        compute: Workers,
        rule: ThresholdRule,
        *,
        by_meaning: bool,
        max_answer_bytes: int,
    ) -> None:
        """Puts a cache together.

        Args:
            holdings: the entries.
            embedder: makes vectors.
            compute: the threads that embed and search.
            rule: decides on near questions.
            by_meaning: whether new entries can be found by meaning.
            max_answer_bytes: the largest answer that is kept.
        """
        self._holdings = holdings
        self._embedder = embedder
        self._compute = compute
        self._by_meaning = by_meaning
        self._max_answer_bytes = max_answer_bytes
        self.rule: Final = rule
        self.counts: Final[Counter[tuple[str, str]]] = Counter()
        """Lookups by tenant and outcome: `exact`, `semantic` or `miss`."""

    async def lookup(self, key: Key, request: chat.ChatInput, mode: Mode) -> Found:
        """Searches for an answer that may be given again. A store that fails costs only what is not in memory.

        Raises:
            MycelError: INVALID_ARGUMENT, OVERLOADED.
        """
        if mode in ("off", "refresh"):
            return Found(None, b"", exact=False, reason=mode)
        found = await self._lookup(key, request, by_meaning=mode == "semantic")
        outcome = "miss" if found.info is None else "exact" if found.exact else "semantic"
        self.counts[key.tenant, outcome] += 1
        return found

    async def _lookup(self, key: Key, request: chat.ChatInput, *, by_meaning: bool) -> Found:
        canonical = canonicalize(model=key.model, scope=key.scope, request=request)
        info = await _unless_store_fails(self._holdings.find(key.tenant, entry_id(key.tenant, canonical.exact)))
        answer = await _unless_store_fails(self._holdings.answer(info)) if info is not None else None
        if info is not None and answer is not None:
            return Found(info, answer, exact=True, reason="")
        if not by_meaning or canonical.question is None:
            return Found(None, b"", exact=False, reason="no_entry")
        return await self._lookup_by_meaning(key.tenant, canonical, canonical.question)

    async def _lookup_by_meaning(self, tenant: str, canonical: CanonicalRequest, question: str) -> Found:
        vector, decision = await self._compute.run(self._decide, (tenant, canonical.surroundings), question)
        nearest, served = decision.nearest, decision.served
        if served is not None:
            answer = await _unless_store_fails(self._holdings.answer(served.info))
            if answer is not None:
                return Found(served.info, answer, exact=False, reason="", nearest=served, vector=vector)
        return Found(None, b"", exact=False, reason=decision.reason or "no_entry", nearest=nearest, vector=vector)

    def _decide(self, namespace: Namespace, question: str) -> tuple[Vector | None, Decision]:
        """Embeds, searches and decides; runs on a worker thread."""
        if not self._matchable(question):
            return None, Decision(None, "no_entry", None)
        vector = self._vector_of(question)
        candidates = []
        for neighbour in self._holdings.nearest(namespace, vector, _CANDIDATES):
            info = self._holdings.info(neighbour.entry_id)
            if info is not None:
                candidates.append(Candidate(info, min(neighbour.similarity, 1.0)))
        return vector, self.rule.decide(question, candidates)

    def _matchable(self, question: str) -> bool:
        """Whether a question may be matched by meaning.

        What the model does not read may differ: a long question is found by the same request only.
        """
        return len(question) <= _LONGEST_QUESTION and self._embedder.reads_whole(question)

    def _vector_of(self, question: str) -> Vector:
        return self._embedder.embed([question])[0].vector

    async def store(
        self, key: Key, request: chat.ChatInput, answer: pb.StoredAnswer, *, ttl_ms: int, vector: Vector | None = None
    ) -> tuple[pb.StoreOutcome.ValueType, str]:
        """Keeps an answer, in place of an earlier one to the same request.

        Args:
            key: whose answer.
            request: the conversation that was answered.
            answer: the answer.
            ttl_ms: for how long it may be given.
            vector: what `lookup` gave for the same question and embedder; None to have it made.

        Returns:
            What became of it, and the entry's id (empty when it was not kept).

        Raises:
            MycelError: INVALID_ARGUMENT, STORE_UNAVAILABLE, OVERLOADED.
        """
        if not may_be_given_again(answer):
            return pb.STORE_OUTCOME_NOT_CACHEABLE, ""
        data = answer.SerializeToString(deterministic=True)
        if len(data) > self._max_answer_bytes:
            return pb.STORE_OUTCOME_TOO_LARGE, ""
        canonical = canonicalize(model=key.model, scope=key.scope, request=request)
        question = canonical.question if self._by_meaning else None
        if question is None or not self._matchable(question):
            question = vector = None
        elif vector is None:
            vector = await self._compute.run(self._vector_of, question)
        now = self._holdings.now()
        info = EntryInfo(
            id=entry_id(key.tenant, canonical.exact),
            tenant=key.tenant,
            scope=key.scope,
            surroundings=canonical.surroundings if question is not None else "",
            question=question or "",
            model=answer.model,
            answer_bytes=len(data),
            created_at=now,
            expires_at=now + ttl_ms,
        )
        await self._holdings.put(Entry(info, data, vector, self._embedder.id if vector is not None else ""))
        return pb.STORE_OUTCOME_STORED, info.id

    def checked_vector(self, values: list[float], embedder_id: str) -> Vector | None:
        """Gives a caller's vector if this cache can use it; None when another embedder made it, or there is none.

        Raises:
            MycelError: INVALID_ARGUMENT, when it claims this embedder and cannot be its work.
        """
        if not values or embedder_id != self._embedder.id:
            return None
        vector = np.asarray(values, dtype=np.float32)
        if vector.shape != (self._embedder.dimensions,):
            raise invalid("embedding", f"has {vector.shape[0]} values instead of {self._embedder.dimensions}")
        length = float(np.linalg.norm(vector))
        if not abs(length - 1.0) <= _UNIT_TOLERANCE:  # NaN is not within it
            raise invalid("embedding", "is not of unit length")
        return vector

    async def invalidate(self, filters: Filters, *, dry_run: bool) -> int:
        """Removes the entries that every filter fits, or only counts them. Waits until all entries are in memory.

        Raises:
            MycelError: STORE_UNAVAILABLE, OVERLOADED.
        """
        await self._holdings.wait_complete()
        matches = _matcher(filters, self._holdings.now())
        ids = [info.id for info in self._holdings.ledger.of_tenant(filters.tenant) if matches(info)]
        if ids and not dry_run:
            await self._holdings.remove(ids)
        return len(ids)

    async def report(self, tenant: str, reported_id: str, *, correct: bool) -> bool:
        """Takes feedback on a hit; a wrong one's entry is removed. Returns whether one was.

        Raises:
            MycelError: ENTRY_NOT_FOUND when the tenant has no such entry, STORE_UNAVAILABLE, OVERLOADED.
        """
        if await self._holdings.find(tenant, reported_id) is None:
            reason = ErrorReason.ERROR_REASON_ENTRY_NOT_FOUND
            raise MycelError(reason, "the tenant has no such entry", field="entry_id")
        if correct:
            return False
        await self._holdings.remove([reported_id])
        return True


async def _unless_store_fails(reading: Awaitable[_T | None]) -> _T | None:
    """Waits for what is read; None when the store fails, which the store has logged."""
    try:
        return await reading
    except MycelError as error:
        if error.reason != ErrorReason.ERROR_REASON_STORE_UNAVAILABLE:
            raise
        return None


def may_be_given_again(answer: pb.StoredAnswer) -> bool:
    """Whether an answer is whole: every choice ended by itself, with text, no refusal and no tool call."""
    return bool(answer.choices) and all(
        choice.finish_reason == chat.FINISH_REASON_STOP
        and not choice.message.refusal
        and not choice.message.tool_calls
        and any(part.text or part.HasField("image") for part in choice.message.content)
        for choice in answer.choices
    )


def _matcher(filters: Filters, now: int) -> Callable[[EntryInfo], bool]:
    def matches(info: EntryInfo) -> bool:
        return (
            (filters.scope is None or info.scope == filters.scope)
            and (not filters.ids or info.id in filters.ids)
            and (not filters.model or info.model == filters.model)
            and (filters.older_than_ms is None or info.created_at < now - filters.older_than_ms)
        )

    return matches
