"""Spans for tests."""

from __future__ import annotations

from services.mesh.otlp.spans import Span

MS = 1_000_000


def span(
    name: str,
    *,
    parent: str = "",
    trace: str = "a" * 32,
    start: float = 0,
    ms: float = 1,
    error: str = "",
    **attributes: str,
) -> Span:
    """A span whose id is its name's; times are milliseconds."""
    return Span(
        trace_id=trace,
        span_id=span_id(name),
        parent_id=span_id(parent) if parent else "",
        service=f"mycel-{name}",
        name=name,
        kind="server",
        start_ns=round(start * MS),
        end_ns=round((start + ms) * MS),
        attributes=attributes,
        error=error,
    )


def span_id(name: str) -> str:
    return name.encode().hex().ljust(16, "0")[:16]
