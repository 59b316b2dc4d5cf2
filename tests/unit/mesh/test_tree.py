"""The tree of a call."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services.mesh.commands.trace import show_trace
from services.mesh.otlp.spans import Span
from services.mesh.otlp.tree import Node, build_forest, trace_json
from tests.unit.mesh.spans import span, span_id

CALL = [
    span("cache", parent="router", start=2, ms=3),
    span("ingress", start=0, ms=20),
    span("llama", parent="router", start=6, ms=12, error="out of slots"),
    span("router", parent="ingress", start=1, ms=18),
]


def names(nodes: tuple[Node, ...]) -> list[object]:
    return [(node.span.name, names(node.children)) if node.children else node.span.name for node in nodes]


def test_spans_hang_below_their_parents_by_time() -> None:
    assert names(build_forest(CALL)) == [("ingress", [("router", ["cache", "llama"])])]


def test_a_span_whose_parent_is_elsewhere_is_a_root() -> None:
    assert names(build_forest([*CALL, span("lost", parent="nowhere", start=30)])) == [
        ("ingress", [("router", ["cache", "llama"])]),
        "lost",
    ]


def test_a_ring_of_parents_does_not_hang() -> None:
    assert names(build_forest([span("a", parent="b"), span("b", parent="a"), span("c")])) == ["c"]


def test_json_has_offsets_from_the_first_span() -> None:
    moved = [span("ingress", start=1000, ms=20), span("router", parent="ingress", start=1004.5, ms=2)]
    trace = trace_json("a" * 32, moved)
    assert (trace["ms"], trace["spans"], trace["services"]) == (20.0, 2, ["mycel-ingress", "mycel-router"])
    child = trace["roots"][0]["children"][0]
    assert (child["offset_ms"], child["ms"], child["parent_id"]) == (4.5, 2.0, span_id("ingress"))


def test_the_table_shows_every_span_with_its_error() -> None:
    out = io.StringIO()
    show_trace(trace_json("a" * 32, CALL), Console(file=out, width=140))
    text = out.getvalue()
    assert [text.index(found.name) for found in sorted(CALL, key=lambda found: found.start_ns)]
    assert "out of slots" in text
    assert "20.0 ms, 4 spans" in text


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=400))
def test_any_set_of_spans_gives_a_forest(pairs: list[tuple[int, int]]) -> None:
    spans: list[Span] = [span(str(own), parent=str(parent), start=own) for own, parent in pairs]
    trace_json("a" * 32, spans)
    seen: set[str] = set()

    def count(nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            seen.add(node.span.span_id)
            count(node.children)

    count(build_forest(spans))
    assert seen <= {found.span_id for found in spans}


def test_a_very_deep_trace_is_cut_not_crashed() -> None:
    chain = [span(str(level), parent=str(level - 1) if level else "", start=level) for level in range(2_000)]
    assert trace_json("a" * 32, chain)["spans"] == 2_000
