"""A running mesh as a caller sees it, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
from mycel.chat.v1 import chat_service_pb2 as chat_pb
from mycel.chat.v1 import types_pb2
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from mycel.openai.v1.openai_service_pb2_grpc import OpenAIServiceStub

KEY = "mycel-dev"
AUTHORIZATION = ("authorization", f"Bearer {KEY}")


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
