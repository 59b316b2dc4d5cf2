"""What the cache needs of a durable store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from services.cache.embedder import Vector
from services.cache.entries import Entry, EntryInfo
from services.common.settings import SettingsError


class StoreInUseError(SettingsError):
    """Another process has the store's file open."""


class StoreFormatError(SettingsError):
    """The store was written by another version, or is damaged."""


class Store(Protocol):
    """Keeps entries. Every method blocks and may raise MycelError (STORE_UNAVAILABLE).

    `put` and `delete` are never called at the same time as each other; reads may be, at any time.
    """

    @property
    def uri(self) -> str:
        """Where entries are kept, without secrets."""

    def put(self, entries: Sequence[Entry]) -> None:
        """Keeps entries with distinct ids, in place of those that have the same ids.

        When it returns, they survive the end of this process, however it ends.
        """

    def delete(self, ids: Sequence[str]) -> None:
        """Removes entries; ids that are not there are passed over."""

    def get(self, entry_id: str) -> Entry | None:
        """Reads one entry."""

    def scan(self) -> Iterator[list[tuple[EntryInfo, Vector | None, str]]]:
        """Reads every entry but its answer: info, vector, embedder's id. Page by page, each entry at least once."""

    def close(self) -> None:
        """Gives the store back; it is not used again."""
