"""What the cache keeps, and under which names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

from services.cache.embedder import Vector

Namespace: TypeAlias = tuple[str, str]
"""Tenant and surroundings (`CanonicalRequest.surroundings`, which covers scope, model and everything but the question).
Questions are compared within one namespace only."""


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """What is held in memory of every entry: all but its vector and its answer."""

    id: str
    """See `entry_id`."""
    tenant: str
    scope: str
    surroundings: str
    """Empty when the entry is found by the same request only."""
    question: str
    """The user's text; empty when the entry is found by the same request only."""
    model: str
    """The model that answered, by its name in the mesh."""
    answer_bytes: int
    """The size of the serialized answer."""
    created_at: int
    """Milliseconds since 1970."""
    expires_at: int
    """Milliseconds since 1970; from then on the entry is not served."""

    @property
    def namespace(self) -> Namespace | None:
        """Where the question is compared; None when the entry is found by the same request only."""
        return (self.tenant, self.surroundings) if self.surroundings else None


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole entry."""

    info: EntryInfo
    answer: bytes
    """The serialized mycel.cache.v1.StoredAnswer."""
    vector: Vector | None
    """The question's vector; None when the entry is found by the same request only."""
    embedder_id: str
    """What made the vector; empty without one."""


def entry_id(tenant: str, exact_hash: str) -> str:
    """Names the one entry that a tenant can have for a request.

    The id follows from the request, so that a second store replaces the first, on any replica and after any crash, and
    an entry is found in the store before anything is in memory.

    Args:
        tenant: the tenant's name.
        exact_hash: `CanonicalRequest.exact`.

    Returns:
        32 hexadecimal digits.
    """
    name = tenant.encode()
    return hashlib.sha256(b"%d:%b%b" % (len(name), name, exact_hash.encode())).hexdigest()[:32]
