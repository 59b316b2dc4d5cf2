"""The connection to Anthropic: key, timeouts, life."""

from __future__ import annotations

from collections.abc import Sequence

import anthropic
import httpx2 as httpx
from mycel.chat.v1 import types_pb2 as chat

from services.provider.adapter import Account, Embedded, Events, answering
from services.provider.capabilities import Capabilities, Model
from services.provider.guard import guard, take_key_off
from services.provider.kinds.anthropic import wire
from services.provider.kinds.anthropic.answer import Answer
from services.provider.kinds.anthropic.errors import translate
from services.provider.kinds.anthropic.facts import facts
from services.provider.requirements import unsupported
from services.provider.standing import Standing


class AnthropicAdapter:
    """One account at Anthropic, or a server that speaks its Messages API."""

    def __init__(self, name: str, client: anthropic.AsyncAnthropic, standing: Standing) -> None:
        """Makes an adapter; nothing is sent yet.

        Args:
            name: the provider's name in the mesh.
            client: the connection.
            standing: how the provider is, told by the connection.
        """
        self.standing = standing
        self._name = name
        self._client = client

    def facts(self, upstream_model: str) -> Capabilities:
        return facts(upstream_model)

    def stream(self, model: Model, value: chat.ChatInput) -> Events:
        return answering(self._ask(model, value), self._name, lambda error: translate(error, self._name))

    async def _ask(self, model: Model, value: chat.ChatInput) -> Events:
        asked = wire.request(model, value)
        answer = Answer(self._name, model.upstream, json_tool=asked.json_tool, given_space=asked.stripped_space)
        stream = await self._client.messages.create(**asked.body, stream=True)
        async with stream:
            async for event in stream:
                for piece in answer.read(event):
                    yield piece
        yield answer.completed()

    async def embed(self, model: Model, texts: Sequence[str]) -> Embedded:  # noqa: ARG002
        raise unsupported(model, "model", "does not embed")

    async def aclose(self) -> None:
        await self._client.close()


def connect(account: Account) -> AnthropicAdapter:
    """Sets up Anthropic, or a compatible server; nothing is sent yet."""
    standing = Standing()
    timeout = httpx.Timeout(
        account.config.timeout.total_seconds(), connect=account.config.connect_timeout.total_seconds()
    )
    client = anthropic.AsyncAnthropic(
        api_key=account.key.get_secret_value() if account.key else "none",
        base_url=account.config.base_url,
        max_retries=0,
        default_headers=_headers(account),
        # Spans of the SDK's own would carry what providers say, and its trace context would leave the mesh.
        open_telemetry=False,
        # A redirect would carry the key to another host, so none is followed.
        http_client=anthropic.DefaultAsyncHttpxClient(
            follow_redirects=False,
            timeout=timeout,
            headers={"accept-encoding": "identity"},
            event_hooks={
                "request": [take_key_off] if account.sends_no_key else [],
                "response": [guard(httpx, account.name, standing)],
            },
        ),
    )
    return AnthropicAdapter(account.name, client, standing)


def _headers(account: Account) -> dict[str, str]:
    headers = account.open_headers()
    if account.key is not None and account.config.base_url is not None:
        # Servers that speak this API may look for the key in its older place.
        headers.setdefault("X-Api-Key", account.key.get_secret_value())
    return headers
