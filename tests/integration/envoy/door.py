"""A real Envoy with the product's configuration, in front of a router whose answers a test decides."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import httpx2
import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mycel.chat.v1 import chat_service_pb2 as chat_pb
from mycel.chat.v1 import chat_service_pb2_grpc as chat_grpc
from mycel.openai.v1 import openai_service_pb2 as openai_pb
from mycel.openai.v1 import openai_service_pb2_grpc as openai_grpc

from services.common.channels import open_channel
from services.common.server import RunningServer, Service, running_server
from services.common.telemetry import Telemetry
from services.mesh.envoy import (
    MESH_SERVICES,
    EnvoyError,
    HostPort,
    LocalAddresses,
    envoy_command,
    find_envoy,
    load_config,
    localise,
    write_config,
)
from services.mesh.envoy_admin import EnvoyAdmin

Context: TypeAlias = Any

DEADLINE_SECONDS = 20.0
"""How long a test waits for a state before it fails."""

OPENAI = "mycel.openai.v1.OpenAIService"
CHAT = "mycel.chat.v1.ChatService"


def json_body(text: str | bytes) -> HttpBody:
    return HttpBody(content_type="application/json", data=text.encode() if isinstance(text, str) else text)


async def _answer_ok(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    yield json_body('{"ok":true}')


async def _chat_ok(request: Any, context: Context) -> chat_pb.ChatResponse:
    return chat_pb.ChatResponse(id="chat-1")


async def _models_ok(model: str, context: Context) -> HttpBody:
    return json_body('{"object":"list","data":[]}')


@dataclass
class Script:
    """What the router behind the door does; a test sets what it needs."""

    completion: Callable[[HttpBody, Context], AsyncIterator[HttpBody]] = _answer_ok
    chat: Callable[[chat_pb.ChatRequest, Context], Awaitable[chat_pb.ChatResponse]] = _chat_ok
    models: Callable[[str, Context], Awaitable[HttpBody]] = _models_ok
    """Gets the model's name, empty for the list."""
    stream: Callable[[chat_pb.StreamChatRequest, Context], AsyncIterator[chat_pb.StreamChatResponse]] | None = None


class ScriptedOpenAI(openai_grpc.OpenAIServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    async def CreateChatCompletion(self, request, context):
        async for body in self._script.completion(request, context):
            yield body

    async def ListModels(self, request, context):
        return await self._script.models("", context)

    async def RetrieveModel(self, request, context):
        return await self._script.models(request.model, context)


class ScriptedChat(chat_grpc.ChatServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    async def Chat(self, request, context):
        return await self._script.chat(request, context)

    async def StreamChat(self, request, context):
        assert self._script.stream is not None
        async for event in self._script.stream(request, context):
            yield event


@dataclass
class Door:
    """An Envoy that runs, and ways to call it."""

    folder: Path
    script: Script = field(default_factory=Script)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> EnvoyAdmin:
        return EnvoyAdmin(self.folder / "admin.sock")

    @property
    def mesh_target(self) -> str:
        return f"unix:{self.folder / 'mesh.sock'}"

    def socket(self, service: str) -> Path:
        return self.folder / f"{service}.sock"

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx2.AsyncClient]:
        async with httpx2.AsyncClient(base_url=self.url, timeout=DEADLINE_SECONDS) as client:
            yield client

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            yield channel

    @asynccontextmanager
    async def serve(self, service: str, services: list[Service]) -> AsyncIterator[RunningServer]:
        """Runs a server on a service's socket until Envoy counts it as healthy, and after that."""
        listen = f"unix:{self.socket(service)}"
        async with running_server(listen, services, Telemetry.disabled(), grace=0.2) as server:
            await self.until_health(service, wanted=True)
            yield server

    def router(self) -> list[Service]:
        chat, openai = ScriptedChat(self.script), ScriptedOpenAI(self.script)
        return [
            Service(CHAT, lambda server: chat_grpc.add_ChatServiceServicer_to_server(chat, server)),
            Service(OPENAI, lambda server: openai_grpc.add_OpenAIServiceServicer_to_server(openai, server)),
        ]

    async def until_health(self, service: str, *, wanted: bool) -> None:
        """Waits until calls through Envoy reach a service that is ready, or are refused because none is."""
        listener = (
            (f"127.0.0.1:{self.port}", "router") if service == "router" else (self.mesh_target, f"{service}.mycel")
        )
        target, authority = listener
        async with open_channel(target, Telemetry.disabled(), authority=authority) as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def reached() -> bool:
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_SECONDS)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                    return not wanted
                return wanted and answer.status == health_pb2.HealthCheckResponse.SERVING

            await until(reached, f"health of {service}: {wanted}")


async def until(reached: Callable[[], Awaitable[bool]], what: str) -> None:
    """Asks until something is so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await reached():
            await asyncio.sleep(0.01)
            assert what


def envoy_binary() -> Path:
    """Finds Envoy; without it the test is skipped, in CI it fails."""
    try:
        return find_envoy()
    except EnvoyError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@asynccontextmanager
async def running_envoy(otlp: HostPort | None = None) -> AsyncIterator[Door]:
    """Starts Envoy alone, with no service behind it."""
    binary = envoy_binary()
    # Not pytest's folder: the path of a Unix socket is limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mycel-"))
    door = Door(folder)
    services = {name: door.socket(name) for name in MESH_SERVICES}
    addresses = LocalAddresses(HostPort("127.0.0.1", 0), folder / "mesh.sock", folder / "admin.sock", services, otlp)
    config = folder / "envoy.yaml"
    write_config(localise(load_config(), addresses), config)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        access_log = stack.enter_context((folder / "access.log").open("wb"))
        errors = stack.enter_context((folder / "envoy.log").open("wb"))
        command = envoy_command(binary, config, concurrency=1)
        process = await asyncio.create_subprocess_exec(*command, stdout=access_log, stderr=errors)
        stack.push_async_callback(_stop, process)

        async def ready() -> bool:
            assert process.returncode is None, (folder / "envoy.log").read_text()
            return await asyncio.to_thread(door.admin.ready)

        await until(ready, "ready")
        door.port = await asyncio.to_thread(door.admin.listener_port, "ingress")
        yield door


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


@asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    """Starts Envoy with the scripted router behind it."""
    async with running_envoy() as door, door.serve("router", door.router()):
        yield door


def chat_stub(channel: grpc.aio.Channel) -> Any:
    return chat_grpc.ChatServiceStub(channel)


def openai_stub(channel: grpc.aio.Channel) -> Any:
    return openai_grpc.OpenAIServiceStub(channel)


LIST_MODELS = openai_pb.ListModelsRequest()
