# ruff: noqa: PLC0415 - the SDK and its exporter take some 15 MB: imported only when traces are wanted
"""The backend's own `generate` span: Triton's model span ends when the request is handed over."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from mycel_llamacpp.generation import Generation


class Spans:
    """Makes spans under Triton's trace, or nothing when traces go nowhere.

    Args:
        model: The model's name in Triton.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._provider: Any = None
        self._tracer: Any = None
        if os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            self._open()

    def _open(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "llamacpp"})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(timeout=2)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
        self._tracer = self._provider.get_tracer("mycel.llamacpp")

    def start(self, request: Any) -> GenerateSpan | None:
        """Starts a request's span; None when the request is not traced."""
        trace = request.trace() if self._tracer else None
        context = trace.get_context() if trace else None
        if not context:
            return None
        from opentelemetry.propagate import extract

        attributes = {"gen_ai.operation.name": "text_completion", "gen_ai.request.model": self._model}
        parent = extract(json.loads(context))
        return GenerateSpan(self._tracer.start_span("generate", parent, attributes=attributes))

    def close(self) -> None:
        """Sends what has not been sent."""
        if self._provider:
            self._provider.shutdown()


class GenerateSpan:
    """A request's span. It carries counts and times, never text."""

    def __init__(self, span: Any) -> None:
        self._span = span
        self._started = time.monotonic()

    def end(self, generation: Generation | None, failure: str) -> None:
        """Ends the span.

        Args:
            generation: What was generated; None when the request was refused before.
            failure: The kind of failure; empty for none.
        """
        if generation is not None:
            self._span.set_attribute("gen_ai.usage.input_tokens", generation.prompt_tokens)
            self._span.set_attribute("gen_ai.usage.output_tokens", generation.tokens)
            if generation.finish_reason:
                reasons = [generation.finish_reason]
                self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
            if generation.first_token_at is not None:
                seconds = generation.first_token_at - self._started
                self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        if failure:
            self._span.set_attribute("error.type", failure)
        self._span.end()
