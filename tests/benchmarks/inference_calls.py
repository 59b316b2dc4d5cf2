"""Asks the same model through the whole mesh and in Triton directly, and measures alike."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import tritonclient.grpc.aio as triton_grpc
from mycel.chat.v1 import chat_service_pb2, types_pb2
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from tests.fakes.tiny_gguf import END_HEADER, END_OF_TURN, START_HEADER
from tests.integration.inference.triton_requests import ask

MODEL = "bench"
_METADATA = (("authorization", "Bearer mycel-dev"), ("x-mycel-cache", "off"))
_SECONDS = 300
_NUMBER = itertools.count(1)


def question(characters: int = 40) -> str:
    """A question like no other from its first letter on, so that nothing of it has been read before."""
    number = next(_NUMBER)
    return "".join(chr(0x61 + (number * 7919 + place * (number + 3)) % 26) for place in range(characters))


def rendered(text: str) -> str:
    """The prompt that the model's chat template makes of a user's message."""
    return f"{START_HEADER}user{END_HEADER}\n\n{text}{END_OF_TURN}{START_HEADER}assistant{END_HEADER}\n\n"


@dataclass(slots=True)
class Stream:
    """What a caller saw of an answer."""

    begun: float
    pieces: list[float] = field(default_factory=list)
    """When each piece came, on the clock of `time.perf_counter`."""
    tokens: int = 0
    text: str = ""

    @property
    def first_ms(self) -> float:
        return (self.pieces[0] - self.begun) * 1e3

    def gaps_ms(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """The milliseconds between pieces, those that came in that time."""
        pairs = itertools.pairwise(self.pieces)
        return [(after - before) * 1e3 for before, after in pairs if since <= after <= until]


Door = Callable[[str, int], AsyncIterator[tuple[str, int]]]
"""Asks a question for so many tokens; gives pieces of text and how many tokens are done."""


def mesh_door(stub: ChatServiceStub) -> Door:
    async def stream(text: str, tokens: int) -> AsyncIterator[tuple[str, int]]:
        call = stub.StreamChat(chat_request([text], tokens), metadata=_METADATA, timeout=_SECONDS)
        try:
            async for event in call:
                if event.delta.text:
                    yield event.delta.text, len(event.delta.text)
        finally:
            call.cancel()  # leaving the loop alone would let the answer go on

    return stream


def triton_door(client: triton_grpc.InferenceServerClient) -> Door:
    async def stream(text: str, tokens: int) -> AsyncIterator[tuple[str, int]]:
        async for piece in ask(client, MODEL, rendered(text), max_tokens=tokens, deadline=_SECONDS):
            if piece.text:
                yield piece.text.decode(), len(piece.text)

    return stream


def chat_request(turns: Sequence[str], tokens: int) -> chat_service_pb2.StreamChatRequest:
    """A conversation: a user's and an assistant's messages by turns."""
    roles = itertools.cycle((types_pb2.ROLE_USER, types_pb2.ROLE_ASSISTANT))
    messages = [
        types_pb2.Message(role=role, content=[types_pb2.ContentPart(text=text)])
        for role, text in zip(roles, turns, strict=False)
    ]
    parameters = types_pb2.GenerationParameters(max_tokens=tokens, temperature=0)
    value = types_pb2.ChatInput(messages=messages, parameters=parameters)
    return chat_service_pb2.StreamChatRequest(model=MODEL, input=value)


async def follow(door: Door, text: str, tokens: int, seen: Stream | None = None) -> Stream:
    """Asks once and notes when each piece comes, in `seen` if it is given."""
    seen = seen or Stream(time.perf_counter())
    async for piece, count in door(text, tokens):
        seen.pieces.append(time.perf_counter())
        seen.tokens += count
        seen.text += piece
    return seen


async def rate(door: Door, streams: int, tokens: int) -> tuple[float, list[float]]:
    """Asks so many at once; gives the tokens a second of all, and each one's milliseconds to the first token."""
    begun = time.perf_counter()
    seen = await asyncio.gather(*(follow(door, question(), tokens) for _ in range(streams)))
    seconds = time.perf_counter() - begun
    assert all(one.tokens == tokens for one in seen), [one.tokens for one in seen]
    return sum(one.tokens for one in seen) / seconds, [one.first_ms for one in seen]


async def first_of_conversation(stub: ChatServiceStub, turns: Sequence[str], tokens: int) -> Stream:
    """Asks with a conversation."""
    seen = Stream(time.perf_counter())
    async for event in stub.StreamChat(chat_request(turns, tokens), metadata=_METADATA, timeout=_SECONDS):
        if event.delta.text:
            seen.pieces.append(time.perf_counter())
            seen.text += event.delta.text
    return seen


async def broken(stub: ChatServiceStub, tokens: int, begun: asyncio.Event) -> tuple[float, grpc.StatusCode]:
    """Asks, and gives when the answer broke off and with what; `begun` is set with the first piece."""
    try:
        async for event in stub.StreamChat(chat_request([question()], tokens), metadata=_METADATA, timeout=_SECONDS):
            if event.delta.text:
                begun.set()
    except grpc.aio.AioRpcError as error:
        return time.perf_counter(), error.code()
    return time.perf_counter(), grpc.StatusCode.OK
