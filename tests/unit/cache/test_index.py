"""The index in memory: finds what it was given, and nothing of another namespace."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entries import Namespace
from services.cache.index import VectorIndex

DIMENSIONS = 16


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


namespaces = st.tuples(st.sampled_from(["team-a", "team-b", "team-ab"]), st.sampled_from(["", "s1", "s2"]))
steps = st.lists(
    st.tuples(st.sampled_from(["put", "remove"]), namespaces, st.integers(0, 20), st.integers(0, 500)), max_size=60
)


@given(steps, st.integers(0, 500))
def test_a_namespace_holds_what_was_put_there_and_nothing_else(steps: list, asked: int):
    index, model = VectorIndex(DIMENSIONS), {}
    for action, namespace, number, seed in steps:
        if action == "put":
            index.put(namespace, str(number), unit(seed))
            model.setdefault(namespace, {})[str(number)] = unit(seed)
        else:
            index.remove(namespace, str(number))
            model.get(namespace, {}).pop(str(number), None)
    assert len(index) == sum(map(len, model.values()))
    for tenant in ("team-a", "team-b", "team-ab"):
        for surroundings in ("", "s1", "s2"):
            stored = model.get((tenant, surroundings), {})
            found = index.search((tenant, surroundings), unit(asked), 100)
            assert {neighbour.entry_id for neighbour in found} == set(stored)
            for neighbour in found:
                expected = float(stored[neighbour.entry_id] @ unit(asked))
                assert neighbour.similarity == pytest.approx(expected, abs=2e-3)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_many_entries_are_found_after_the_change_to_a_graph(seed: int):
    index, space = VectorIndex(DIMENSIONS), ("team", "s")
    for number in range(700):
        index.put(space, str(number), unit(seed + number))
    for number in range(0, 700, 3):
        index.remove(space, str(number))
    index.put(space, "1", unit(seed + 10_000))
    assert len(index) == 700 - 234
    assert index.search(space, unit(seed + 10_000), 1)[0].entry_id == "1"
    for number in (2, 100, 500, 698):
        assert index.search(space, unit(seed + number), 1)[0].entry_id == str(number)
    gone = {str(number) for number in range(0, 700, 3)}
    assert not gone & {neighbour.entry_id for neighbour in index.search(space, unit(seed), 50)}
    assert index.search(("other", "s"), unit(seed), 50) == []


def test_an_emptied_graph_finds_nothing():
    index, space = VectorIndex(DIMENSIONS), Namespace(("team", "s"))
    for number in range(300):
        index.put(space, str(number), unit(number))
    for number in range(300):
        index.remove(space, str(number))
    assert index.search(space, unit(1), 4) == []
    assert len(index) == 0


def test_the_native_libraries_can_be_loaded_together():
    # Loaded in the wrong order, ONNX Runtime crashes the process.
    code = "import services.cache.index, services.cache.embedder, services.cache.milvus_store; print('fine')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "fine\n"
