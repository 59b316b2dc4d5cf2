"""Runs the inference service and asks it over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.common.channels import open_channel
from services.common.config import load_config
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.common.triton_server import LlamaModel
from services.inference.serve import running_inference
from services.inference.settings import InferenceSettings

STATUS = health_pb2.HealthCheckResponse


@dataclass(frozen=True, slots=True)
class Inference:
    """The service, connected."""

    channel: grpc.aio.Channel
    address: str

    @property
    def stub(self) -> CompletionServiceStub:
        return CompletionServiceStub(self.channel)

    async def models(self) -> dict[str, completion.ModelInfo]:
        answer = await self.stub.ListModels(completion.ListModelsRequest(), timeout=10)
        return {model.name: model for model in answer.models}

    async def wait_until(self, status: STATUS.ServingStatus, seconds: float = 20) -> None:
        """Waits until health reports this."""
        watch = health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest(), timeout=seconds)
        async for answer in watch:
            if answer.status == status:
                watch.cancel()
                return

    def stream(self, request: completion.StreamCompletionRequest, timeout: float = 30, **options):
        return self.stub.StreamCompletion(request, timeout=timeout, **options)


def settings_for(folder: Path, models: Sequence[LlamaModel], triton: str, *, idle: str = "20s") -> InferenceSettings:
    """Settings with a mesh.yaml for these models; Triton knows `tiny` as it is, the mesh as `tiny-local`."""
    config = {
        "providers": {"local": {"kind": "triton", "timeout": idle}, "openai": {"kind": "openai"}},
        "models": {
            f"{model.name}-local": {
                "provider": "local",
                "model": model.name,
                "gguf": str(model.gguf),
                "context": model.context_tokens,
                "slots": model.slots,
                "queue": model.queue,
                "description": f"the {model.name} one",
            }
            for model in models
        }
        | {"hosted": {"provider": "openai"}},
        "routes": {"auto": {"low": ["hosted"]}},
    }
    path = folder / "mesh.yaml"
    path.write_text(yaml.safe_dump(config))
    loaded = load_config(path)
    return InferenceSettings("127.0.0.1:0", triton, loaded.mesh, folder, watch_seconds=0.2)


@asynccontextmanager
async def inference(
    settings: InferenceSettings, telemetry: Telemetry | None = None, caller: Telemetry | None = None
) -> AsyncIterator[Inference]:
    """The service; with `caller`, calls carry that tracing's context."""
    async with (
        running_inference(settings, telemetry or Telemetry.disabled()) as server,
        open_channel(server.address, caller or Telemetry.disabled()) as channel,
    ):
        yield Inference(channel, server.address)


def request(
    text: str = "What do hyphae do?", model: str = "tiny-local", **parameters
) -> completion.StreamCompletionRequest:
    """A question by a user, greedy unless told otherwise."""
    value = chat.ChatInput(messages=[message(chat.ROLE_USER, text)])
    value.parameters.CopyFrom(chat.GenerationParameters(**{"temperature": 0, **parameters}))
    return completion.StreamCompletionRequest(model=model, input=value)


def message(role: chat.Role.ValueType, text: str) -> chat.Message:
    return chat.Message(role=role, content=[chat.ContentPart(text=text)])


@dataclass(frozen=True, slots=True)
class Answer:
    """The events of a call."""

    events: list[completion.StreamCompletionResponse]

    @property
    def kinds(self) -> list[str]:
        return [event.WhichOneof("event") for event in self.events]

    @property
    def deltas(self) -> list[chat.ChoiceDelta]:
        return [event.delta for event in self.events if event.HasField("delta")]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def usage(self) -> chat.Usage:
        return self.events[-1].completed.usage


async def answer(service: Inference, wanted: completion.StreamCompletionRequest, **options) -> Answer:
    """Asks and collects; a failed call raises the service's typed error."""
    try:
        return Answer([event async for event in service.stream(wanted, **options)])
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, "inference") from error
