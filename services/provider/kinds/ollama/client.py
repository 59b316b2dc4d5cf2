"""The connection to an Ollama server: key, timeouts, life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import httpx
import ollama
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.errors import MycelError
from services.provider.adapter import Account, Embedded, Events, answering
from services.provider.capabilities import Capabilities, Model
from services.provider.guard import guard, take_key_off
from services.provider.kinds.ollama import wire
from services.provider.kinds.ollama.errors import HttpError, translate
from services.provider.kinds.ollama.facts import facts
from services.provider.requirements import unsupported
from services.provider.standing import Standing

_REFUSED_FROM: Final = 300
# As many as the other SDKs have.
_CONNECTIONS: Final = 1000
_IDLE_CONNECTIONS: Final = 100


class Client(ollama.AsyncClient):
    """The SDK's client, with requests and answers as they are on the wire.

    The SDK's own `chat` would drop what its types do not know: parts of tools' schemas, the ids of calls, and the
    order not to cut the conversation down.
    """

    async def converse(self, body: dict[str, Any]) -> AsyncIterator[wire.Line]:
        """Asks `/api/chat` for a stream."""
        return await self._request(wire.Line, "POST", "/api/chat", json=body, stream=True)


class OllamaAdapter:
    """One Ollama server."""

    def __init__(self, name: str, client: Client, standing: Standing) -> None:
        """Makes an adapter; nothing is sent yet.

        Args:
            name: the provider's name in the mesh.
            client: the connection.
            standing: how the provider is, told by the connection.
        """
        self.standing = standing
        self._name = name
        self._client = client
        self._blind: dict[str, bool] = {}
        """Of each model that pictures were meant for, whether it cannot see."""

    def facts(self, upstream_model: str) -> Capabilities:
        return facts(upstream_model)

    def stream(self, model: Model, value: chat.ChatInput) -> Events:
        return answering(self._ask(model, value), self._name, self._translate)

    async def _ask(self, model: Model, value: chat.ChatInput) -> Events:
        body = wire.request(model, value)
        await self._check_sight(model, value)
        answer = wire.Answer()
        begun = False
        stream = await self._client.converse(body)
        try:
            async for line in stream:
                if not begun:
                    begun = True
                    yield completion.CompletionStarted(provider=self._name, upstream_model=line.model or model.upstream)
                for delta in answer.read(line):
                    yield delta
        finally:
            # A caller that goes away must not leave the server generating.
            await stream.aclose()  # type: ignore[attr-defined]  # the SDK gives an async generator
        yield completion.CompletionCompleted(usage=answer.usage)

    async def embed(self, model: Model, texts: Sequence[str]) -> Embedded:
        try:
            answer = await self._client.embed(model=model.upstream, input=list(texts))
            return Embedded(answer.embeddings, max(answer.prompt_eval_count or 0, 0))
        except Exception as error:  # noqa: BLE001 - anything can be wrong with what a provider sends
            raise self._translate(error) from None

    async def aclose(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def _check_sight(self, model: Model, value: chat.ChatInput) -> None:
        """Refuses pictures for a model that cannot see: the server would leave them out without a word."""
        pictured = (
            (index, place)
            for index, message in enumerate(value.messages)
            for place, part in enumerate(message.content)
            if part.WhichOneof("part") == "image"
        )
        first = next(pictured, None)
        if first is None:
            return
        if model.upstream not in self._blind:
            shown = await self._client.show(model.upstream)
            self._blind[model.upstream] = shown.capabilities is not None and "vision" not in shown.capabilities
        if self._blind[model.upstream]:
            raise unsupported(model, f"messages[{first[0]}].content[{first[1]}].image", "does not see pictures")

    def _translate(self, error: Exception) -> MycelError:
        return translate(error, self._name)


def connect(account: Account) -> OllamaAdapter:
    """Sets up an Ollama server; nothing is sent yet."""
    standing = Standing()
    headers = account.open_headers()
    if account.key is not None:
        headers.setdefault("authorization", f"Bearer {account.key.get_secret_value()}")
    timeout = httpx.Timeout(
        account.config.timeout.total_seconds(), connect=account.config.connect_timeout.total_seconds()
    )
    client = Client(
        account.config.base_url,
        headers={**headers, "accept-encoding": "identity"},
        timeout=timeout,
        limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_IDLE_CONNECTIONS),
        # A redirect would carry the key to another host, so none is followed.
        follow_redirects=False,
        event_hooks={
            # The SDK reads a key from the environment by itself, whoever the server is.
            "request": [take_key_off] if account.sends_no_key else [],
            "response": [guard(httpx, account.name, standing), _raise_refusal],
        },
    )
    return OllamaAdapter(account.name, client, standing)


async def _raise_refusal(response: httpx.Response) -> None:
    if response.status_code >= _REFUSED_FROM:
        await response.aread()
        raise HttpError(response.status_code, response.text, response.headers)
