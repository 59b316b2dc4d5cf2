"""The store of the last traces is bounded whatever comes in."""

from __future__ import annotations

from services.mesh.otlp.store import StoreLimits, TraceStore
from tests.unit.mesh.spans import span


def trace_id(number: int) -> str:
    return f"{number:032x}"


def test_spans_of_one_trace_come_together_in_any_order() -> None:
    store = TraceStore()
    store.add([span("b", start=2), span("c", trace=trace_id(9))])
    store.add([span("a", start=1), span("b", start=2)])
    assert [found.name for found in store.get("a" * 32)] == ["a", "b"]
    assert len(store) == 2


def test_the_oldest_trace_goes_first() -> None:
    store = TraceStore(StoreLimits(traces=3))
    store.add(span("a", trace=trace_id(number)) for number in range(5))
    assert [bool(store.get(trace_id(number))) for number in range(5)] == [False, False, True, True, True]


def test_spans_over_the_limit_are_counted_not_kept() -> None:
    store = TraceStore(StoreLimits(spans_per_trace=2))
    store.add(span(name) for name in "abcd")
    assert (len(store.get("a" * 32)), store.dropped("a" * 32)) == (2, 2)


def test_bytes_are_bounded() -> None:
    store = TraceStore(StoreLimits(total_bytes=20_000))
    for number in range(100):
        store.add([span("a", trace=trace_id(number), text="x" * 500)])
    assert 5 < len(store) < 20
    assert store.get(trace_id(99))


def test_the_latest_is_the_one_that_began_last() -> None:
    store = TraceStore()
    assert store.latest() is None
    store.add([span("late", trace=trace_id(1), start=50), span("early", trace=trace_id(2), start=10)])
    assert store.latest() == trace_id(1)


def test_a_trace_is_found_by_the_beginning_of_its_id() -> None:
    store = TraceStore()
    store.add([span("a", trace="ab" + "0" * 30), span("b", trace="ac" + "0" * 30)])
    assert store.find("ab") == ["ab" + "0" * 30]
    assert len(store.find("a")) == 2
    assert store.find("ff") == []
