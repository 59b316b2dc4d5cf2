"""One mesh for all tests at the door: everything real, with two tiny models whose answers are known."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from mycel.chat.v1 import chat_service_pb2 as chat_pb
from mycel.chat.v1 import types_pb2
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from mycel.openai.v1.openai_service_pb2_grpc import OpenAIServiceStub

from services.common.settings import runtime
from services.mesh.started import started_mesh, without_keys
from tests.fakes.tiny_gguf import build_tiny_gguf

KEY = "mycel-dev"
AUTHORIZATION = ("authorization", f"Bearer {KEY}")

MESH = """
providers: {local: {kind: triton}}
models:
  tiny: {provider: local, gguf: tiny.gguf, context: 4096, description: says one sentence}
  endless: {provider: local, gguf: endless.gguf, context: 32768, slots: 2, description: never stops by itself}
routes: {auto: {low: [tiny], medium: [tiny], high: [tiny]}}
"""


@dataclass(frozen=True)
class Door:
    """A running mesh, as a caller sees it."""

    address: str
    """`host:port` of the ingress."""
    answer: str
    """What the model `tiny` says to everything."""

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @asynccontextmanager
    async def http(self, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
        """An HTTP client that sends the right key, unless another `authorization` is given."""
        sent = {"authorization": AUTHORIZATION[1], "content-type": "application/json"} | headers
        async with httpx2.AsyncClient(base_url=self.url, timeout=60, headers=sent) as client:
            yield client

    @asynccontextmanager
    async def chat(self) -> AsyncIterator[Any]:
        async with self._channel() as channel:
            yield ChatServiceStub(channel)

    @asynccontextmanager
    async def openai(self) -> AsyncIterator[Any]:
        async with self._channel() as channel:
            yield OpenAIServiceStub(channel)

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[grpc.aio.Channel]:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            yield channel

    async def works(self) -> None:
        """The next request works: a call that is answered by the model, not by the cache."""
        async with self.chat() as stub:
            metadata = (AUTHORIZATION, ("x-mycel-cache", "off"))
            response = await stub.Chat(question("Does it work?"), metadata=metadata, timeout=60)
        assert response.choices[0].message.content[0].text == self.answer


def question(text: str, model: str = "auto") -> chat_pb.ChatRequest:
    return chat_pb.ChatRequest(model=model, input=conversation(text))


def conversation(text: str) -> types_pb2.ChatInput:
    content = [types_pb2.ContentPart(text=text)]
    return types_pb2.ChatInput(messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content=content)])


def _missing() -> str:
    """Says what set-up has not made; nothing when all is there."""
    parts = {"triton": "runtime.json", "minilm": "manifest.json"}
    missing = [name for name, file in parts.items() if not (runtime() / name / file).is_file()]
    return f"not set up ({', '.join(missing)}): run `make setup`" if missing else ""


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    missing = _missing()
    if missing and os.environ.get("CI") != "true":
        pytest.skip(missing)
    # Not pytest's folder: the paths of Unix sockets are limited.
    with tempfile.TemporaryDirectory(prefix="mycel-door-") as name:
        folder = Path(name)
        tiny = build_tiny_gguf(folder / "tiny.gguf")
        build_tiny_gguf(folder / "endless.gguf", endless=True)
        (folder / "mesh.yaml").write_text(MESH)
        settings = {**without_keys(), "MYCEL_CONFIG": str(folder / "mesh.yaml")}
        with started_mesh(folder / "state", settings) as mesh:
            running = Door(mesh.state.ingress, tiny.answer)
            # Ready means that the door is open; the models may still be loading.
            asyncio.run(running.works())
            yield running
