"""One trace: caller, inference service, client span, Triton's request, the engine's generation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry import trace

from services.common.telemetry import Telemetry, telemetry
from services.common.triton_server import LlamaModel
from services.mesh.otlp.receiver import otlp_receiver
from services.mesh.otlp.spans import Span
from services.mesh.otlp.store import TraceStore
from tests.fakes.tiny_gguf import TinyModel
from tests.fakes.triton_process import running_triton
from tests.integration.inference.calls import STATUS, Inference, answer, inference, request, settings_for

CANARY = "zebra-canary"
ORDER = [
    "caller",
    "/mycel.completion.v1.CompletionService/StreamCompletion",  # the caller's side
    "/mycel.completion.v1.CompletionService/StreamCompletion",
    "inference.GRPCInferenceService/ModelStreamInfer",
    "InferRequest",
]
UNSAMPLED = "0af7651916cd43dd8448eb211c80319c"


@asynccontextmanager
async def traced(
    tmp_path, monkeypatch: pytest.MonkeyPatch, models: list[LlamaModel]
) -> AsyncIterator[tuple[Inference, Telemetry, TraceStore]]:
    store = TraceStore()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with otlp_receiver(store) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.grpc}")
        url = f"http://{receiver.http}/v1/traces"
        with running_triton(tmp_path, models, traces_url=url) as triton, telemetry("mycel-inference") as tracing:
            settings = settings_for(tmp_path, models, triton.address)
            async with inference(settings, tracing, caller=tracing) as service:
                await service.wait_until(STATUS.SERVING)
                yield service, tracing, store


async def test_spans_hang_below_one_another_and_hold_no_text(
    tmp_path, monkeypatch: pytest.MonkeyPatch, triton_models: list[LlamaModel], tiny: TinyModel
) -> None:
    async with traced(tmp_path, monkeypatch, triton_models[:1]) as (service, tracing, store):
        with trace.use_span(unsampled_span()):
            assert (await answer(service, request(CANARY))).text == tiny.answer
        with tracing.tracer().start_as_current_span("caller") as caller:
            assert (await answer(service, request(CANARY))).text == tiny.answer
        trace_id = f"{caller.get_span_context().trace_id:032x}"
        spans = await spans_of(store, trace_id, {"caller", "InferRequest", "generate"})
        # The call before was not sampled: nobody, Triton least, has told of it.
        assert store.get(UNSAMPLED) == []
    by_id = {span.span_id: span for span in spans}
    generate = next(span for span in spans if span.name == "generate")
    # Triton's own spans for the model and its compute stand in between as well.
    assert [name for name in ancestors(generate, by_id) if name in ORDER] == list(reversed(ORDER))
    assert CANARY not in repr(spans)
    assert "Hyphae" not in repr(spans)


async def test_spans_tell_model_tokens_time_and_end(
    tmp_path, monkeypatch: pytest.MonkeyPatch, triton_models: list[LlamaModel]
) -> None:
    async with traced(tmp_path, monkeypatch, triton_models[:1]) as (service, tracing, store):
        with tracing.tracer().start_as_current_span("caller") as caller:
            usage = (await answer(service, request())).usage
        trace_id = f"{caller.get_span_context().trace_id:032x}"
        spans = await spans_of(store, trace_id, {"caller", "generate"})
    generate = next(span for span in spans if span.name == "generate")
    server = next(span for span in spans if span.kind == "server" and span.name == ORDER[1])
    for span in (generate, server):
        assert span.attributes["gen_ai.request.model"] == "tiny"
        assert span.attributes["gen_ai.usage.input_tokens"] == usage.prompt_tokens
        assert span.attributes["gen_ai.usage.output_tokens"] == usage.completion_tokens
        assert 0 < span.attributes["gen_ai.response.time_to_first_chunk"] < 30
        assert "stop" in str(span.attributes["gen_ai.response.finish_reasons"])


def unsampled_span() -> trace.Span:
    """A span that its trace's beginner decided not to record."""
    context = trace.SpanContext(int(UNSAMPLED, 16), 1, is_remote=True, trace_flags=trace.TraceFlags(0))
    return trace.NonRecordingSpan(context)


async def spans_of(store: TraceStore, trace_id: str, names: set[str]) -> list[Span]:
    """Waits until the trace has spans of these names."""
    async with asyncio.timeout(20):
        while not names <= {span.name for span in store.get(trace_id)}:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)
    return store.get(trace_id)


def ancestors(span: Span, by_id: dict[str, Span]) -> list[str]:
    names = []
    while span.parent_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names
