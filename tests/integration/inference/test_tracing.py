"""One trace: caller, inference service, client span, Triton's request, the engine's generation."""

from __future__ import annotations

import asyncio

import pytest

from services.common.telemetry import telemetry
from services.common.triton_server import LlamaModel
from services.mesh.otlp.receiver import otlp_receiver
from services.mesh.otlp.spans import Span
from services.mesh.otlp.store import TraceStore
from tests.fakes.tiny_gguf import TinyModel
from tests.fakes.triton_process import running_triton
from tests.integration.inference.calls import STATUS, answer, inference, request, settings_for

CANARY = "zebra-canary"


async def test_spans_hang_below_one_another_and_hold_no_text(
    tmp_path, monkeypatch: pytest.MonkeyPatch, triton_models: list[LlamaModel], tiny: TinyModel
) -> None:
    store = TraceStore()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with otlp_receiver(store) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.grpc}")
        url = f"http://{receiver.http}/v1/traces"
        with (
            running_triton(tmp_path, triton_models[:1], traces_url=url) as triton,
            telemetry("mycel-inference") as tracing,
        ):
            settings = settings_for(tmp_path, triton_models[:1], triton.address)
            async with inference(settings, tracing, caller=tracing) as service:
                await service.wait_until(STATUS.SERVING)
                with tracing.tracer().start_as_current_span("caller") as caller:
                    assert (await answer(service, request(CANARY))).text == tiny.answer
                trace_id = f"{caller.get_span_context().trace_id:032x}"
                spans = await _spans(store, trace_id, {"caller", "InferRequest", "generate"})
    by_id = {span.span_id: span for span in spans}
    generate = next(span for span in spans if span.name == "generate")
    ancestors = _ancestors(generate, by_id)
    # Triton's own spans for the model and its compute stand in between as well.
    assert [name for name in ancestors if name in ORDER] == list(reversed(ORDER))
    assert CANARY not in repr(spans)
    assert "Hyphae" not in repr(spans)
    assert generate.attributes["gen_ai.usage.output_tokens"] > 5
    server = next(
        span
        for span in spans
        if "gen_ai.response.time_to_first_chunk" in span.attributes and span.name.endswith("StreamCompletion")
    )
    assert server.attributes["gen_ai.request.model"] == "tiny"
    assert server.attributes["gen_ai.usage.output_tokens"] == generate.attributes["gen_ai.usage.output_tokens"]
    assert server.attributes["gen_ai.usage.input_tokens"] == generate.attributes["gen_ai.usage.input_tokens"]


ORDER = [
    "caller",
    "/mycel.completion.v1.CompletionService/StreamCompletion",  # the caller's side
    "/mycel.completion.v1.CompletionService/StreamCompletion",
    "inference.GRPCInferenceService/ModelStreamInfer",
    "InferRequest",
]


async def _spans(store: TraceStore, trace_id: str, names: set[str]) -> list[Span]:
    """Waits until the trace has spans of these names."""
    async with asyncio.timeout(20):
        while not names <= {span.name for span in store.get(trace_id)}:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)
    return store.get(trace_id)


def _ancestors(span: Span, by_id: dict[str, Span]) -> list[str]:
    names = []
    while span.parent_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names
