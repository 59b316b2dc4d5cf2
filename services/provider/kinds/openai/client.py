"""The connection to an OpenAI-compatible provider: key, timeouts, life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import httpx2 as httpx
import openai
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from openai.types.chat import ChatCompletionChunk

from services.common.errors import MycelError
from services.provider.adapter import Account, Embedded, Events, answering
from services.provider.capabilities import Capabilities, Model
from services.provider.guard import guard, take_key_off
from services.provider.kinds.openai import wire
from services.provider.kinds.openai.errors import translate
from services.provider.kinds.openai.facts import facts, takes_developer
from services.provider.standing import Standing

_OPENAI: Final = ".openai.com"


class OpenAIAdapter:
    """One provider that speaks the chat completions API."""

    def __init__(self, name: str, client: openai.AsyncOpenAI, standing: Standing, *, genuine: bool) -> None:
        """Makes an adapter; nothing is sent yet.

        Args:
            name: the provider's name in the mesh.
            client: the connection.
            standing: how the provider is, told by the connection.
            genuine: whether it is OpenAI's own API; compatible servers know its newer names by chance.
        """
        self.standing = standing
        self._name = name
        self._client = client
        self._genuine = genuine

    def facts(self, upstream_model: str) -> Capabilities:
        return facts(upstream_model)

    def stream(self, model: Model, value: chat.ChatInput) -> Events:
        return answering(self._ask(model, value), self._name, self._translate)

    async def _ask(self, model: Model, value: chat.ChatInput) -> Events:
        newer = self._genuine or takes_developer(model.upstream)
        body = wire.request(model.upstream, value, newer_names=newer)
        usage = chat.Usage()
        begun = False
        stream = await self._client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
        async with stream:
            async for chunk in stream:
                # Azure opens with a chunk about the prompt, before anything is generated.
                if not begun and chunk.choices:
                    begun = True
                    yield self._started(chunk, model.upstream)
                for choice in chunk.choices or ():
                    yield wire.delta(choice)
                if chunk.usage is not None:
                    usage = wire.usage(chunk.usage)
        yield completion.CompletionCompleted(usage=usage)

    async def embed(self, model: Model, texts: Sequence[str]) -> Embedded:
        try:
            answer = await self._client.embeddings.create(model=model.upstream, input=list(texts))
            ordered = sorted(answer.data, key=lambda item: item.index)
            return Embedded([item.embedding for item in ordered], max(answer.usage.prompt_tokens, 0))
        except Exception as error:  # noqa: BLE001 - anything can be wrong with what a provider sends
            raise self._translate(error) from None

    async def aclose(self) -> None:
        await self._client.close()

    def _translate(self, error: Exception) -> MycelError:
        return translate(error, self._name)

    def _started(self, chunk: ChatCompletionChunk, asked: str) -> completion.CompletionStarted:
        return completion.CompletionStarted(
            provider=self._name, upstream_model=chunk.model or asked, upstream_id=chunk.id or ""
        )


def connect(account: Account) -> OpenAIAdapter:
    """Sets up OpenAI, or a compatible server; nothing is sent yet."""
    standing = Standing()
    client = openai.AsyncOpenAI(
        api_key=account.key.get_secret_value() if account.key else "none",
        base_url=account.config.base_url,
        max_retries=0,
        http_client=http_client(account, standing),
        default_headers=account.open_headers(),
    )
    genuine = client.base_url.host.endswith(_OPENAI)
    if not genuine:
        # What the environment says of the account at OpenAI concerns no other server.
        client.organization = client.project = None
    return OpenAIAdapter(account.name, client, standing, genuine=genuine)


def http_client(account: Account, standing: Standing) -> httpx.AsyncClient:
    """Gives the HTTP client: no redirect is followed, since it would carry the key to another host."""
    timeout = httpx.Timeout(
        account.config.timeout.total_seconds(), connect=account.config.connect_timeout.total_seconds()
    )
    return openai.DefaultAsyncHttpxClient(
        follow_redirects=False,
        timeout=timeout,
        headers={"accept-encoding": "identity"},
        event_hooks={
            "request": [take_key_off] if account.sends_no_key else [],
            "response": [guard(httpx, account.name, standing)],
        },
    )
