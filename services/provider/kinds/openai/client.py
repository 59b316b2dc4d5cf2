"""The connection to an OpenAI-compatible provider: key, timeouts, life."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import httpx2 as httpx
import openai
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason
from openai.types.chat import ChatCompletionChunk
from pydantic import SecretStr, ValidationError

from services.common.config import ProviderConfig
from services.common.errors import MycelError
from services.provider.adapter import Event
from services.provider.kinds.openai import wire
from services.provider.kinds.openai.errors import translate

_CONNECT_SECONDS: Final = 5.0


class OpenAIAdapter:
    """One OpenAI-compatible provider."""

    def __init__(self, name: str, config: ProviderConfig, key: SecretStr) -> None:
        """Makes an adapter; nothing is sent yet.

        Args:
            name: the provider's name in the mesh.
            config: its configuration.
            key: its API key.
        """
        self._name = name
        seconds = config.timeout.total_seconds()
        timeout = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        # A redirect would carry the key to another host, so none is followed. Retries are the router's.
        http = openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=timeout)
        self._client = openai.AsyncOpenAI(
            api_key=key.get_secret_value(),
            base_url=config.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=http,
        )

    async def stream(self, upstream_model: str, value: chat.ChatInput) -> AsyncGenerator[Event, None]:
        usage: chat.Usage | None = None
        begun = finished = False
        try:
            stream = await self._client.chat.completions.create(
                **wire.request(upstream_model, value), stream=True, stream_options={"include_usage": True}
            )
            async with stream:
                async for chunk in stream:
                    if not begun:
                        begun = True
                        yield self._started(chunk, upstream_model)
                    for choice in chunk.choices or ():
                        finished = finished or bool(choice.finish_reason)
                        yield wire.delta(choice)
                    if chunk.usage is not None:
                        usage = wire.usage(chunk.usage)
        except (
            openai.OpenAIError,
            httpx.HTTPError,
            httpx.StreamError,
            ValidationError,
            ValueError,
            TypeError,
        ) as error:
            raise translate(error, self._name) from error
        if not finished:
            raise MycelError(
                ErrorReason.ERROR_REASON_BACKEND_MALFORMED,
                f"{self._name}: the answer broke off",
                metadata={"provider": self._name},
            )
        yield completion.CompletionCompleted(usage=usage or chat.Usage())

    async def aclose(self) -> None:
        await self._client.close()

    def _started(self, chunk: ChatCompletionChunk, asked: str) -> completion.CompletionStarted:
        return completion.CompletionStarted(
            provider=self._name, upstream_model=chunk.model or asked, upstream_id=chunk.id or ""
        )
