"""ChatService: the typed public API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from google.protobuf.timestamp_pb2 import Timestamp
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as types
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceServicer

from services.router.calls import CallReader, Context, answer_whole, mark_closed, open_answer
from services.router.engine import ChatEngine, Closed, Opened


class ChatServicer(ChatServiceServicer):
    """Serves ChatService from the engine."""

    def __init__(self, engine: ChatEngine, reader: CallReader) -> None:
        self._engine = engine
        self._reader = reader

    async def Chat(self, request: chat_service.ChatRequest, context: Context) -> chat_service.ChatResponse:
        tenant = self._reader.authenticate(context)
        call = self._reader.read(context, tenant, request.model, request.input, streamed=False)
        whole = await answer_whole(self._engine, call, context)
        return chat_service.ChatResponse(
            id=whole.opened.id,
            created=Timestamp(seconds=whole.opened.created),
            choices=whole.choices,
            usage=whole.closed.usage,
            summary=whole.closed.summary,
        )

    async def StreamChat(
        self, request: chat_service.StreamChatRequest, context: Context
    ) -> AsyncIterator[chat_service.StreamChatResponse]:
        tenant = self._reader.authenticate(context)
        call = self._reader.read(context, tenant, request.model, request.input, streamed=True)
        async with aclosing(self._engine.answer(call)) as events:
            async for event in events:
                match event:
                    case Opened():
                        await open_answer(event, context)
                        yield chat_service.StreamChatResponse(started=_started(event))
                    case Closed():
                        mark_closed(event)
                        completed = chat_service.ChatCompleted(usage=event.usage, summary=event.summary)
                        yield chat_service.StreamChatResponse(completed=completed)
                    case chat_service.ProviderSwitched():
                        yield chat_service.StreamChatResponse(provider_switched=event)
                    case types.ChoiceDelta():
                        yield chat_service.StreamChatResponse(delta=event)


def _started(opened: Opened) -> chat_service.ChatStarted:
    return chat_service.ChatStarted(
        id=opened.id,
        created=Timestamp(seconds=opened.created),
        model=opened.model,
        provider=opened.provider,
    )
