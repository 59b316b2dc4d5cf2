"""Keeps the last traces in memory, bounded in traces, spans and bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.mesh.otlp.spans import Span


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept."""

    traces: int = 1_000
    spans_per_trace: int = 512
    """Further spans of a trace are counted and dropped."""
    total_bytes: int = 64 * 1024 * 1024


@dataclass(slots=True)
class _Kept:
    """A trace in the store."""

    spans: dict[str, Span] = field(default_factory=dict)
    """By span id: a batch that an exporter sends twice counts once."""
    size: int = 0
    dropped: int = 0


class TraceStore:
    """The last traces, the oldest dropped first. For one event loop: it takes no locks."""

    def __init__(self, limits: StoreLimits | None = None) -> None:
        self._limits = limits or StoreLimits()
        self._traces: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    def add(self, spans: Iterable[Span]) -> None:
        """Takes spans in; each joins its trace, whatever order they come in."""
        for span in spans:
            self._add(span)
        while len(self._traces) > self._limits.traces or self._size > self._limits.total_bytes:
            _, oldest = self._traces.popitem(last=False)
            self._size -= oldest.size

    def _add(self, span: Span) -> None:
        kept = self._traces.setdefault(span.trace_id, _Kept())
        if span.span_id in kept.spans:
            return
        if len(kept.spans) >= self._limits.spans_per_trace:
            kept.dropped += 1
            return
        kept.spans[span.span_id] = span
        kept.size += span.size
        self._size += span.size

    def find(self, prefix: str) -> list[str]:
        """Gives the ids of the traces that begin with `prefix`, the latest last."""
        return [trace_id for trace_id in self._traces if trace_id.startswith(prefix)]

    def get(self, trace_id: str) -> list[Span]:
        """Gives a trace's spans, by start; none when the trace is not known."""
        kept = self._traces.get(trace_id)
        return sorted(kept.spans.values(), key=lambda span: (span.start_ns, -span.end_ns)) if kept else []

    def dropped(self, trace_id: str) -> int:
        """Gives how many spans of a trace were dropped."""
        kept = self._traces.get(trace_id)
        return kept.dropped if kept else 0

    def latest(self) -> str | None:
        """Gives the id of the trace that began last; None when there is none."""
        starts: Mapping[str, int] = {
            trace_id: min(span.start_ns for span in kept.spans.values()) for trace_id, kept in self._traces.items()
        }
        return max(starts, key=starts.__getitem__) if starts else None

    def __len__(self) -> int:
        return len(self._traces)
