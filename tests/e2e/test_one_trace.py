"""One call, one trace: the caller, Envoy's ingress, the router, Envoy's mesh, cache and inference, Triton."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import grpc
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from services.mesh.commands.ask import question
from services.mesh.control import ControlClient, ControlError
from services.mesh.supervisor.state import RunState
from tests.e2e.conftest import Mesh

CHAT = "/mycel.chat.v1.ChatService/StreamChat"
LOOKUP = "/mycel.cache.v1.CacheService/Lookup"
STORE = "/mycel.cache.v1.CacheService/Store"
COMPLETE = "/mycel.completion.v1.CompletionService/StreamCompletion"
INFER = "inference.GRPCInferenceService/ModelStreamInfer"

Path = tuple[tuple[str, str, str], ...]
"""From the root to a span: service, kind, and the name for services' spans."""


async def call(state: RunState, prompt: str) -> str:
    """Asks with a span of the caller's own, sent to the mesh's receiver; gives the trace's id."""
    provider = TracerProvider(resource=Resource.create({"service.name": "caller"}))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=state.otlp_grpc, insecure=True, timeout=5))
    )
    interceptors = aio_client_interceptors(provider)
    with provider.get_tracer("test").start_as_current_span("work") as span:
        async with grpc.aio.insecure_channel(state.ingress, interceptors=interceptors) as channel:
            metadata = (("authorization", "Bearer mycel-dev"),)
            stream = ChatServiceStub(channel).StreamChat(question(prompt), metadata=metadata, timeout=30)
            events = [event async for event in stream]
    provider.shutdown()
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert events[-1].completed.summary.trace_id == trace_id
    return trace_id


def whole_trace(state: RunState, trace_id: str, spans: int) -> dict[str, Any]:
    """Waits until the trace has that many spans; exporters send in batches."""
    client = ControlClient(state.socket("control"))
    deadline = time.monotonic() + 15
    trace: dict[str, Any] = {"spans": 0}
    while trace["spans"] < spans and time.monotonic() < deadline:
        with suppress(ControlError):  # nothing has arrived yet
            trace = client.trace(trace_id)
        time.sleep(0.05)
    return trace


def paths(nodes: list[dict[str, Any]], above: Path = ()) -> list[Path]:
    """Every span's way from the root."""
    found: list[Path] = []
    for node in nodes:
        name = "" if node["service"].startswith("envoy") else node["name"]
        here = (*above, (node["service"], node["kind"], name))
        found += [here, *paths(node["children"], here)]
    return found


def through(listener: str) -> Path:
    """The two spans of an Envoy hop."""
    return ((listener, "server", ""), (listener, "client", ""))


ENTRY: Path = (
    ("caller", "internal", "work"),
    ("caller", "client", CHAT),
    *through("envoy-ingress"),
    ("mycel-router", "server", CHAT),
)


def hop(service: str, method: str) -> Path:
    """A call of the router's through Envoy's mesh listener, seen from the caller's root."""
    return (*ENTRY, ("mycel-router", "client", method), *through("envoy-mesh"), (service, "server", method))


async def test_a_miss_is_one_trace_from_the_caller_to_triton(mesh: Mesh) -> None:
    state = mesh.started.state
    trace_id = await call(state, "a question that nobody has asked before")
    infer = (
        *hop("mycel-inference", COMPLETE),
        ("mycel-inference", "client", INFER),
        ("triton", "server", "InferRequest"),
    )
    expected = {hop("mycel-cache", LOOKUP), hop("mycel-cache", STORE), infer}
    trace = whole_trace(state, trace_id, 22)
    found = paths(trace["roots"])
    assert expected <= set(found)
    assert len(trace["roots"]) == 1, "a span has lost its parent"
    assert len(set(found)) == len(found), "a span is there twice"
    assert any(path[: len(infer)] == infer and path[-1][2] == "generate" for path in found)


async def test_a_hit_asks_no_model(mesh: Mesh) -> None:
    state = mesh.started.state
    prompt = "a question that is asked twice"
    whole_trace(state, await call(state, prompt), 22)  # its last span is that of the store
    trace_id = await call(state, prompt)
    trace = whole_trace(state, trace_id, 9)
    assert len(trace["roots"]) == 1
    assert set(trace["services"]) == {"caller", "envoy-ingress", "mycel-router", "envoy-mesh", "mycel-cache"}
    assert hop("mycel-cache", LOOKUP) in paths(trace["roots"])


async def test_housekeeping_leaves_no_traces(mesh: Mesh) -> None:
    """The router asks its backends for their models every few seconds, and Envoy asks for health."""
    state = mesh.started.state
    trace_id = await call(state, "the last call")
    whole_trace(state, trace_id, 22)
    assert ControlClient(state.socket("control")).trace("last")["trace_id"] == trace_id
