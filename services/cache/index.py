"""Finds the stored questions that are nearest to a question, in memory.

Every namespace (tenant and surroundings) has an index object of its own: a search cannot see what is not in it, so no
filter stands between one tenant's entries and another's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime  # noqa: F401 - usearch brings its own C++ library: loaded after it, ONNX Runtime crashes the process
from usearch.index import Index

from services.cache.embedder import Vector
from services.cache.entries import Namespace

_GRAPH_FROM: Final = 256
"""Entries from which a namespace gets a graph. Below, comparing with each is as fast, and takes 0.8 KB an entry where
an almost empty graph takes 80 KB: applications that put the time of day into their instructions make a namespace a
call."""

_GRAPH_DTYPE: Final = "f16"
"""Half precision: half the memory, and the nearest entry is found as well as in full (i8 loses a fifth of them)."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stored question that is near."""

    entry_id: str
    similarity: float
    """Cosine, -1 to 1."""


class VectorIndex:
    """Vectors by namespace and entry id.

    Safe to call from several threads; a call takes well under a millisecond, in a graph of millions one or two.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._spaces: dict[Namespace, _Space] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, tuple(self._spaces.values())))

    def put(self, namespace: Namespace, entry_id: str, vector: Vector) -> None:
        """Adds an entry, in place of the one with the same id."""
        with self._lock:
            space = self._spaces.setdefault(namespace, _Space(self._dimensions))
            space.put(entry_id, vector)

    def remove(self, namespace: Namespace, entry_id: str) -> None:
        """Removes an entry, if it is there."""
        with self._lock:
            space = self._spaces.get(namespace)
            if space is not None:
                space.remove(entry_id)
                if not len(space):
                    del self._spaces[namespace]

    def search(self, namespace: Namespace, vector: Vector, limit: int) -> list[Neighbour]:
        """Gives the nearest entries of one namespace, nearest first, at most `limit`."""
        with self._lock:
            space = self._spaces.get(namespace)
            return space.search(vector, limit) if space is not None else []


class _Vectors(Protocol):
    """Vectors by number."""

    def put(self, key: int, vector: Vector) -> None: ...
    def remove(self, key: int) -> None: ...
    def search(self, vector: Vector, limit: int) -> list[tuple[int, float]]: ...


class _Space:
    """One namespace's vectors: a plain table at first, a graph when there are many."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._keys: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._numbers = count()
        self._vectors: _Vectors = _Table(dimensions)

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, entry_id: str, vector: Vector) -> None:
        self.remove(entry_id)
        if isinstance(self._vectors, _Table) and len(self) >= _GRAPH_FROM:
            self._vectors = self._vectors.as_graph()
        key = next(self._numbers)
        self._keys[entry_id], self._ids[key] = key, entry_id
        self._vectors.put(key, vector)

    def remove(self, entry_id: str) -> None:
        key = self._keys.pop(entry_id, None)
        if key is not None:
            del self._ids[key]
            self._vectors.remove(key)

    def search(self, vector: Vector, limit: int) -> list[Neighbour]:
        found = self._vectors.search(vector, limit)
        return [Neighbour(self._ids[key], similarity) for key, similarity in found if key in self._ids]


class _Table:
    """Compares with every vector."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._rows: dict[int, npt.NDArray[np.float16]] = {}

    def put(self, key: int, vector: Vector) -> None:
        self._rows[key] = vector.astype(np.float16)

    def remove(self, key: int) -> None:
        del self._rows[key]

    def search(self, vector: Vector, limit: int) -> list[tuple[int, float]]:
        if not self._rows:
            return []
        similarities = np.stack(tuple(self._rows.values())).astype(np.float32) @ vector
        keys = tuple(self._rows)
        nearest = np.argsort(-similarities)[:limit]
        return [(keys[position], float(similarities[position])) for position in nearest]

    def as_graph(self) -> _Graph:
        graph = _Graph(self._dimensions)
        for key, row in self._rows.items():
            graph.put(key, row.astype(np.float32))
        return graph


class _Graph:
    """Searches a graph (HNSW), in time that hardly grows with the number of vectors."""

    def __init__(self, dimensions: int) -> None:
        self._index: Any = Index(ndim=dimensions, metric="cos", dtype=_GRAPH_DTYPE)

    def put(self, key: int, vector: Vector) -> None:
        self._index.add(key, vector, threads=1)

    def remove(self, key: int) -> None:
        self._index.remove(key, threads=1)

    def search(self, vector: Vector, limit: int) -> list[tuple[int, float]]:
        if not len(self._index):
            return []
        matches = self._index.search(vector, limit, threads=1)
        return [
            (int(key), 1.0 - float(distance)) for key, distance in zip(matches.keys, matches.distances, strict=True)
        ]
