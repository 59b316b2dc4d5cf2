"""The durable store: real Milvus Lite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.cache.entries import Entry, EntryInfo
from services.cache.milvus_store import MAX_ANSWER_BYTES, MilvusStore
from services.cache.store import StoreFormatError, StoreInUseError
from services.common.settings import SettingsError

DIMENSIONS = 8
ENTRIES_BEFORE_THE_KILL = 200

WRITER = """
import sys
import numpy as np
from services.cache.entries import Entry, EntryInfo
from services.cache.milvus_store import MilvusStore

store = MilvusStore(sys.argv[1], 8)
for number in range(100_000):
    info = EntryInfo(f"entry-{number}", f"team-{number % 7}", "", "s", "q", "m", 4, number, 10**15)
    vector = np.eye(8, dtype=np.float32)[number % 8]
    store.put([Entry(info, b"%04d" % number, vector, "e/1")])
    if number >= 10 and number % 5 == 0:
        store.delete([f"entry-{number - 10}"])
    print(number, flush=True)
"""


def entry(name: str, *, tenant: str = "team-a", answer: bytes = b"answer", vector: bool = True) -> Entry:
    info = EntryInfo(name, tenant, "scope", "s" if vector else "", "What?", "llama", len(answer), 5, 10**15)
    return Entry(info, answer, np.eye(DIMENSIONS, dtype=np.float32)[3] if vector else None, "e/1" if vector else "")


def scanned(store: MilvusStore) -> dict[str, EntryInfo]:
    return {info.id: info for page in store.scan() for info, _, _ in page}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MilvusStore]:
    store = MilvusStore(str(tmp_path / "deeper" / "cache.db"), DIMENSIONS)
    yield store
    store.close()


def test_an_entry_comes_back_as_it_was(store: MilvusStore):
    kept = entry("x", answer=b"\x00\xff" * 700)
    store.put([kept])
    found = store.get("x")
    assert found is not None
    assert (found.info, found.answer, found.embedder_id) == (kept.info, kept.answer, "e/1")
    assert np.array_equal(found.vector, kept.vector)
    assert store.get("y") is None


def test_an_entry_without_a_vector(store: MilvusStore):
    store.put([entry("x", vector=False)])
    found = store.get("x")
    assert found is not None
    assert found.vector is None
    assert [(vector, embedder_id) for page in store.scan() for _, vector, embedder_id in page] == [(None, "")]


@pytest.mark.parametrize("size", [1, 49_149, 49_150, 65_536, MAX_ANSWER_BYTES])
def test_answers_of_any_size(store: MilvusStore, size: int):
    answer = np.random.default_rng(size).bytes(size)
    store.put([entry("x", answer=answer)])
    found = store.get("x")
    assert found is not None
    assert found.answer == answer


def test_putting_again_replaces_and_deleting_is_final(store: MilvusStore):
    store.put([entry("x", answer=b"one"), entry("y", tenant="team-b")])
    store.put([entry("x", answer=b"two")])
    assert store.get("x").answer == b"two"
    assert set(scanned(store)) == {"x", "y"}
    store.delete(["x", "never there"])
    assert store.get("x") is None
    assert set(scanned(store)) == {"y"}
    store.put([entry("x", answer=b"three")])
    assert store.get("x").answer == b"three"


def test_a_scan_gives_everything_over_many_pages(store: MilvusStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.cache.milvus_store._PAGE", 50)
    names = {f"entry-{number}" for number in range(230)}
    store.put([entry(name, tenant=f"team-{len(name)}") for name in sorted(names)])
    pages = list(store.scan())
    assert len(pages) > 4
    assert {info.id for page in pages for info, _, _ in page} == names


def test_odd_names_and_questions(store: MilvusStore):
    name = "a\"b\\c' or 1 == 1 日本語 \x00"
    info = EntryInfo("x", name, name, "s", name, name, 1, 5, 10**15)
    store.put([Entry(info, b"1", np.eye(DIMENSIONS, dtype=np.float32)[0], "e/1")])
    assert store.get("x").info == info
    assert scanned(store) == {"x": info}


def test_entries_are_there_after_a_clean_end(tmp_path: Path):
    first = MilvusStore(str(tmp_path / "cache.db"), DIMENSIONS)
    first.put([entry("x"), entry("y")])
    first.delete(["y"])
    first.close()
    second = MilvusStore(str(tmp_path / "cache.db"), DIMENSIONS)
    try:
        assert scanned(second) == {"x": entry("x").info}
    finally:
        second.close()


def test_a_second_process_is_refused(store: MilvusStore):
    code = f"from services.cache.milvus_store import MilvusStore; MilvusStore({store.uri!r}, {DIMENSIONS})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0
    assert "StoreInUseError" in result.stderr
    assert "another process is using it" in result.stderr


def test_a_second_store_in_this_process_is_refused_and_harms_nothing(store: MilvusStore):
    store.put([entry("x")])
    with pytest.raises(StoreInUseError, match=r"cache\.db: another process is using it"):
        MilvusStore(store.uri, DIMENSIONS)
    assert store.get("x") is not None


def test_vectors_of_another_length_are_refused(tmp_path: Path):
    uri = str(tmp_path / "cache.db")
    MilvusStore(uri, DIMENSIONS).close()
    with pytest.raises(StoreFormatError, match="another length"):
        MilvusStore(uri, DIMENSIONS + 1)
    MilvusStore(uri, DIMENSIONS).close()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "cache.db").write_bytes(b"SQLite format 3\x00")
    with pytest.raises(StoreFormatError, match="not a store"):
        MilvusStore(str(tmp_path / "cache.db"), DIMENSIONS)


def test_an_address_that_nobody_answers_is_told_in_one_line():
    with pytest.raises(SettingsError, match=r"^cache store http://127\.0\.0\.1:1: ") as caught:
        MilvusStore("http://user:secret@127.0.0.1:1", DIMENSIONS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("round_", range(2))
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, round_: int):
    uri = str(tmp_path / "cache.db")
    with subprocess.Popen([sys.executable, "-c", WRITER, uri], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = -1
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged >= ENTRIES_BEFORE_THE_KILL + 7 * round_:
                break
        writer.kill()
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    deleted = {number - 10 for number in range(10, acknowledged + 1, 5)}
    expected = {f"entry-{number}" for number in range(acknowledged + 1) if number not in deleted}

    store = MilvusStore(uri, DIMENSIONS)
    try:
        found = scanned(store)
        # One more may have been written, or deleted, without having been acknowledged.
        assert expected - set(found) <= {f"entry-{acknowledged + 1 - 10}"}
        assert set(found) - expected <= {f"entry-{acknowledged + 1}"}
        assert store.get("entry-1").answer == b"0001"
    finally:
        store.close()
