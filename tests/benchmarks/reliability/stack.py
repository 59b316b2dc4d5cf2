"""The parts that are measured, as processes of their own: Envoy, the router, the provider adapter.

A call goes the whole way: client, Envoy's ingress, router, Envoy's mesh listener, provider, upstream. Cache and local
inference are not there; calls pass by the cache.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
import yaml
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.mesh.envoy import (
    MESH_SERVICES,
    HostPort,
    LocalAddresses,
    envoy_command,
    find_envoy,
    load_config,
    localise,
    write_config,
)
from services.mesh.envoy_admin import EnvoyAdmin
from tests.benchmarks.reliability import speech

ROOT: Final = Path(__file__).resolve().parents[3]
METADATA: Final = (("authorization", "Bearer mycel-dev"), ("x-mycel-cache", "off"))
CALL_SECONDS: Final = 60.0
_KEY_VARIABLE: Final = "BENCH_KEY"
_READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the caller saw of one call."""

    text: str
    seconds: float
    first_seconds: float
    """Until the first piece of text."""
    usage: chat.Usage
    usages: int
    """How many usage records came."""
    attempts: int
    model: str
    switches: int


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts."""

    chat: ChatServiceStub
    provider: CompletionServiceStub
    """The provider adapter, past Envoy and the router."""
    router_process: psutil.Process
    provider_process: psutil.Process

    async def ask(self, model: str, *, streamed: bool) -> Told:
        """Asks once.

        Raises:
            grpc.aio.AioRpcError: the call failed, which the caller is to be spared.
        """
        begun = time.perf_counter()
        if not streamed:
            request = chat_service.ChatRequest(model=model, input=question("speak"))
            answer = await self.chat.Chat(request, metadata=METADATA, timeout=CALL_SECONDS)
            seconds = time.perf_counter() - begun
            text = "".join(part.text for part in answer.choices[0].message.content)
            summary = answer.summary
            return Told(text, seconds, seconds, answer.usage, 1, summary.attempts, summary.model, 0)
        return await self._stream(chat_service.StreamChatRequest(model=model, input=question("speak")), begun)

    async def _stream(self, request: chat_service.StreamChatRequest, begun: float) -> Told:
        pieces: list[str] = []
        first = 0.0
        switches = 0
        completed: list[chat_service.ChatCompleted] = []
        async for event in self.chat.StreamChat(request, metadata=METADATA, timeout=CALL_SECONDS):
            match event.WhichOneof("event"):
                case "delta" if event.delta.text:
                    first = first or time.perf_counter() - begun
                    pieces.append(event.delta.text)
                case "provider_switched":
                    switches += 1
                case "completed":
                    completed.append(event.completed)
        seconds = time.perf_counter() - begun
        last = completed[-1]
        summary = last.summary
        return Told(
            "".join(pieces), seconds, first, last.usage, len(completed), summary.attempts, summary.model, switches
        )


def question(prompt: str) -> chat.ChatInput:
    return chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=prompt)])])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model for mesh.yaml, with a provider of its own."""

    name: str
    kind: str
    address: str
    timeout: timedelta = timedelta(seconds=60)
    """The longest wait for the next piece."""


def configuration(
    candidates: Sequence[Candidate], routes: Mapping[str, Sequence[str]], reliability: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Makes a mesh.yaml."""
    return {
        "providers": {candidate.name: _provider(candidate) for candidate in candidates},
        "models": {
            candidate.name: {"provider": candidate.name, "model": speech.MODELS[candidate.kind]}
            for candidate in candidates
        },
        "routes": {
            name: {"low": list(models), "medium": [], "high": []}
            for name, models in {"auto": [candidates[0].name], **routes}.items()
        },
        "cache": {"mode": "off"},
        "reliability": dict(reliability or {}),
    }


def _provider(candidate: Candidate) -> dict[str, Any]:
    address = f"{candidate.address}/v1" if candidate.kind == "openai" else candidate.address
    where = "endpoint" if candidate.kind == "azure_openai" else "base_url"
    timeout = f"{candidate.timeout.total_seconds() * 1e3:.0f}ms"
    return {"kind": candidate.kind, where: address, "api_key_env": _KEY_VARIABLE, "timeout": timeout}


@asynccontextmanager
async def running_stack(config: Mapping[str, Any]) -> AsyncIterator[Stack]:
    """Starts the parts and stops them on leaving.

    Raises:
        TimeoutError: they did not get ready.
    """
    # Not deeper: the paths of Unix sockets are limited.
    with tempfile.TemporaryDirectory(prefix="mycel-bench-") as name, ExitStack() as processes:
        folder = Path(name)
        (folder / "mesh.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        sockets = {service: folder / f"{service}.sock" for service in MESH_SERVICES}
        addresses = LocalAddresses(
            HostPort("127.0.0.1", 0), folder / "mesh.sock", folder / "admin.sock", sockets, otlp=None
        )
        write_config(localise(load_config(), addresses), folder / "envoy.yaml")
        environment = _environment(folder, addresses)
        provider = processes.enter_context(_process(_service("provider"), folder, environment))
        router = processes.enter_context(_process(_service("router"), folder, environment))
        command = envoy_command(find_envoy(), folder / "envoy.yaml", log_path=folder / "envoy.log")
        processes.enter_context(_process(command, folder, environment))
        port = await _until_ready(EnvoyAdmin(addresses.admin))
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as ingress,
            grpc.aio.insecure_channel(f"unix:{sockets['provider']}") as direct,
        ):
            yield Stack(
                ChatServiceStub(ingress),
                CompletionServiceStub(direct),
                psutil.Process(router.pid),
                psutil.Process(provider.pid),
            )


def _service(name: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"services.{name}"]


def _environment(folder: Path, addresses: LocalAddresses) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MYCEL_", "OTEL_", "OPENAI_", "AZURE_", "ANTHROPIC_", "OLLAMA_"))
        and not name.lower().endswith("_proxy")
    }
    listens = {f"MYCEL_{name.upper()}_LISTEN": f"unix:{path}" for name, path in addresses.services.items()}
    own = {"MYCEL_CONFIG": str(folder / "mesh.yaml"), "MYCEL_HOME": str(folder), "MYCEL_MESH": f"unix:{addresses.mesh}"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    return {**kept, **listens, **own, _KEY_VARIABLE: "sk-bench", "PYTHONPATH": path}


@contextmanager
def _process(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{len(list(folder.iterdir()))}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _until_ready(admin: EnvoyAdmin) -> int:
    async with asyncio.timeout(_READY_SECONDS):
        while not await asyncio.to_thread(admin.ready):  # noqa: ASYNC110 - Envoy tells only those who ask
            await asyncio.sleep(0.05)
        healthy: dict[str, bool] = {}
        while not (healthy.get("router") and healthy.get("provider")):
            await asyncio.sleep(0.05)
            healthy = await asyncio.to_thread(admin.healthy_services)
        return await asyncio.to_thread(admin.listener_port, "ingress")
