"""OpenAIService: OpenAI's JSON in `google.api.HttpBody`, which Envoy maps to HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from google.api.httpbody_pb2 import HttpBody
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as types
from mycel.embedding.v1 import embedding_service_pb2 as embedding
from mycel.openai.v1 import openai_service_pb2 as openai_service
from mycel.openai.v1.openai_service_pb2_grpc import OpenAIServiceServicer

from services.common.errors import MycelError, internal, invalid
from services.router.calls import CallReader, Context, answer_whole, mark_closed, open_answer
from services.router.catalogue import Catalogue
from services.router.engine import ChatEngine, Closed, Opened
from services.router.openai import render, schema
from services.router.openai.parse import parse_body, to_input
from services.router.ports import Call

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_EMBED_SECONDS: Final = 30.0

Embed = Callable[[embedding.EmbedRequest, float], Awaitable[embedding.EmbedResponse]]


class OpenAIServicer(OpenAIServiceServicer):
    """Serves OpenAIService from the engine."""

    def __init__(self, engine: ChatEngine, reader: CallReader, catalogue: Catalogue, embed: Embed) -> None:
        self._engine = engine
        self._reader = reader
        self._catalogue = catalogue
        self._embed = embed
        self._started = int(time.time())

    async def CreateChatCompletion(self, request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        tenant = self._reader.authenticate(context)
        body = parse_body(request.data, schema.ChatCompletionRequest)
        call = self._reader.read(context, tenant, body.model, to_input(body), streamed=bool(body.stream))
        if not body.stream:
            whole = await answer_whole(self._engine, call, context)
            data = render.completion(whole.opened, whole.choices, whole.closed.usage)
            yield HttpBody(content_type=_JSON, data=data)
            return
        usage = bool(body.stream_options and body.stream_options.include_usage)
        async for chunk in self._chunks(call, context, include_usage=usage):
            yield HttpBody(content_type=_EVENTS, data=chunk)

    async def _chunks(self, call: Call, context: Context, *, include_usage: bool) -> AsyncIterator[bytes]:
        writer: render.ChunkWriter | None = None
        async with aclosing(self._engine.answer(call)) as events:
            try:
                async for event in events:
                    match event:
                        case Opened():
                            await open_answer(event, context)
                            writer = render.ChunkWriter(event, include_usage=include_usage)
                        case Closed() if writer is not None:
                            mark_closed(event)
                            yield writer.usage(event.usage) + render.DONE
                        case Closed():
                            raise internal()
                        case chat_service.ProviderSwitched():
                            yield render.switch_comment(event)
                        case types.ChoiceDelta() if writer is not None:
                            yield writer.delta(event)
            except MycelError as error:
                if writer is not None:
                    # The HTTP body would end as if all were well: the error has to be an event of its own.
                    yield render.error_event(error)
                raise

    async def CreateEmbedding(self, request: HttpBody, context: Context) -> HttpBody:
        self._reader.authenticate(context)
        body = parse_body(request.data, schema.EmbeddingRequest)
        if body.dimensions is not None:
            raise invalid("dimensions", "the built-in embedding model has one size only")
        texts = [body.input] if isinstance(body.input, str) else body.input
        left = context.time_remaining()
        seconds = _EMBED_SECONDS if left is None else min(left, _EMBED_SECONDS)
        answer = await self._embed(embedding.EmbedRequest(model=body.model, texts=texts), seconds)
        vectors = [item.values for item in answer.embeddings]
        # The official SDK asks for base64 and decodes it.
        as_base64 = body.encoding_format == "base64"
        data = render.embeddings(vectors, body.model, answer.prompt_tokens, as_base64=as_base64)
        return HttpBody(content_type=_JSON, data=data)

    async def ListModels(self, request: openai_service.ListModelsRequest, context: Context) -> HttpBody:
        self._reader.authenticate(context)
        return HttpBody(content_type=_JSON, data=render.models(self._catalogue.entries(), self._started))

    async def RetrieveModel(self, request: openai_service.RetrieveModelRequest, context: Context) -> HttpBody:
        self._reader.authenticate(context)
        entry = self._catalogue.entry(request.model)
        return HttpBody(content_type=_JSON, data=render.model(entry, self._started))
