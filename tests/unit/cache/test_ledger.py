"""The books in memory: order of use, ends, sizes."""

from __future__ import annotations

from services.cache.entries import EntryInfo, entry_id
from services.cache.ledger import Ledger, RecentAnswers


def info(name: str, *, tenant: str = "a", size: int = 10, created: int = 0, ends: int = 100) -> EntryInfo:
    return EntryInfo(name, tenant, "", "", "", "m", size, created, ends)


def test_the_longest_unused_are_the_surplus():
    ledger = Ledger()
    for name in "xyz":
        ledger.put(info(name))
    ledger.put(info("other", tenant="b"))
    ledger.touch(info("x"))
    assert ledger.surplus("a", 1) == ["y", "z"]
    assert ledger.surplus("a", 3) == []
    assert ledger.surplus("nobody", 0) == []


def test_counts_and_sizes_by_tenant():
    ledger = Ledger()
    ledger.put(info("x", size=3))
    ledger.put(info("x", size=5))
    ledger.put(info("y", tenant="b", size=7))
    assert (ledger.count("a"), ledger.count("b"), ledger.count()) == (1, 1, 2)
    assert (ledger.answer_bytes("a"), ledger.answer_bytes("b"), ledger.answer_bytes()) == (5, 7, 12)
    ledger.remove("x")
    assert ledger.remove("x") is None
    assert (ledger.count("a"), ledger.answer_bytes("a"), list(ledger.of_tenant("a"))) == (0, 0, [])


def test_what_has_ended_is_given_once_and_a_renewed_entry_is_not():
    ledger = Ledger()
    ledger.put(info("x", ends=10))
    ledger.put(info("y", ends=20))
    ledger.put(info("z", ends=10))
    ledger.put(info("z", ends=30))
    assert ledger.ended(10, 100) == ["x"]
    assert ledger.ended(10, 100) == []
    assert ledger.ended(30, 1) == ["y"]
    assert ledger.ended(30, 100) == ["z"]


def test_age_stands_for_use_after_a_start():
    ledger = Ledger()
    for name, created in (("new", 3), ("old", 1), ("middle", 2)):
        ledger.put(info(name, created=created))
    ledger.order_by_age()
    assert [entry.id for entry in ledger.of_tenant("a")] == ["old", "middle", "new"]


def test_recent_answers_stay_within_their_bytes():
    recent = RecentAnswers(10)
    recent.put("x", b"1234")
    recent.put("y", b"1234")
    assert recent.get("x") == b"1234"
    recent.put("z", b"1234")
    assert recent.get("y") is None
    assert recent.get("x") == b"1234"
    recent.put("x", b"12")
    recent.put("w", b"1234")
    assert recent.get("z") == b"1234"
    recent.put("huge", b"x" * 11)
    assert recent.get("huge") is None
    recent.remove("x")
    assert recent.get("x") is None


def test_ids_do_not_run_into_one_another():
    exact = "0" * 64
    assert entry_id("a", exact) != entry_id("b", exact)
    assert entry_id("1:a", exact) != entry_id("a", exact)
    assert len(entry_id("a", exact)) == 32
