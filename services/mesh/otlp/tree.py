"""The tree of one call, from its spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.mesh.otlp.spans import Span

_NS_PER_MS: Final = 1e6
_MAX_DEPTH: Final = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A span with what was done inside it."""

    span: Span
    children: tuple[Node, ...]

    def to_json(self, origin_ns: int) -> dict[str, object]:
        """Gives the node as plain values; times are milliseconds, offsets from `origin_ns`."""
        span = self.span
        values: dict[str, object] = {
            "span_id": span.span_id,
            "parent_id": span.parent_id,
            "service": span.service,
            "name": span.name,
            "kind": span.kind,
            "offset_ms": round((span.start_ns - origin_ns) / _NS_PER_MS, 3),
            "ms": round((span.end_ns - span.start_ns) / _NS_PER_MS, 3),
            "attributes": dict(span.attributes),
            "children": [child.to_json(origin_ns) for child in self.children],
        }
        if span.error:
            values["error"] = span.error
        return values


def build_forest(spans: Sequence[Span]) -> tuple[Node, ...]:
    """Puts spans under their parents.

    A span whose parent is not among them becomes a root: the caller's own span, say, that was never sent here. Spans
    that claim to be one another's parents (a broken sender), or are nested more than a hundred deep, are left out. Of
    spans with the same id one is taken.
    """
    known = {span.span_id: span for span in spans}
    below: dict[str, list[Span]] = {}
    for span in sorted(known.values(), key=lambda span: span.start_ns):
        parent = span.parent_id if span.parent_id in known else ""
        below.setdefault(parent, []).append(span)

    def nodes(parent: str, depth: int) -> tuple[Node, ...]:
        if depth > _MAX_DEPTH:
            return ()
        return tuple(Node(span, nodes(span.span_id, depth + 1)) for span in below.get(parent, ()))

    return nodes("", 0)


def trace_json(trace_id: str, spans: Sequence[Span], dropped: int = 0) -> dict[str, Any]:
    """Gives a trace as plain values, for the control socket and `mycel trace --json`."""
    origin = min((span.start_ns for span in spans), default=0)
    end = max((span.end_ns for span in spans), default=0)
    return {
        "trace_id": trace_id,
        "start_ns": origin,
        "ms": round((end - origin) / _NS_PER_MS, 3),
        "spans": len(spans),
        "dropped_spans": dropped,
        "services": sorted({span.service for span in spans}),
        "roots": [node.to_json(origin) for node in build_forest(spans)],
    }
