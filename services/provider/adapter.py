"""What a kind of provider has to do, and what is the same for all of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from pydantic import SecretStr

from services.common.config import ProviderConfig
from services.common.errors import MycelError
from services.provider.capabilities import Capabilities, Model
from services.provider.failures import malformed
from services.provider.standing import Standing

Event: TypeAlias = completion.CompletionStarted | chat.ChoiceDelta | completion.CompletionCompleted
Events: TypeAlias = AsyncGenerator[Event, None]

_log = logging.getLogger("mycel.provider")


@dataclass(frozen=True, slots=True)
class Account:
    """How a provider is reached and with which secrets."""

    name: str
    """The provider's name in the mesh."""
    config: ProviderConfig
    key: SecretStr | None
    """Its API key; None when none is sent."""
    headers: Mapping[str, SecretStr]
    """Headers sent along."""

    @property
    def sends_no_key(self) -> bool:
        """Whether neither a key nor a header in its place is sent."""
        return self.key is None and not any(name.lower() == "authorization" for name in self.headers)

    def open_headers(self) -> dict[str, str]:
        """Gives the headers in the form that an SDK takes."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors as a provider gave them, of any length, in the order of their texts."""

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int


class Adapter(Protocol):
    """One configured provider. Every failure is a `MycelError`."""

    @property
    def standing(self) -> Standing:
        """How the provider is."""
        ...

    def facts(self, upstream_model: str) -> Capabilities:
        """Gives what is known of a model by the provider's own name of it."""
        ...

    def stream(self, model: Model, value: chat.ChatInput) -> Events:
        """Asks a model: `started`, deltas, `completed`. Closing the generator closes the connection.

        Args:
            model: the model.
            value: the input, checked, and within what the model can do.
        """
        ...

    async def embed(self, model: Model, texts: Sequence[str]) -> Embedded:
        """Asks a model for the vectors of some texts."""
        ...

    async def aclose(self) -> None:
        """Closes the provider's connections."""
        ...


async def answering(source: Events, provider: str, translate: Callable[[Exception], MycelError]) -> Events:
    """Passes an answer on; whatever goes wrong in it is a `MycelError`.

    Args:
        source: the answer as the kind reads it.
        provider: the provider's name in the mesh.
        translate: gives the error for what an SDK raised.
    """
    begun: set[int] = set()
    ended: set[int] = set()
    async with aclosing(source) as events:
        try:
            async for event in events:
                if isinstance(event, chat.ChoiceDelta):
                    begun.add(event.index)
                    if event.finish_reason:
                        ended.add(event.index)
                elif isinstance(event, completion.CompletionCompleted) and (begun - ended or not ended):
                    raise malformed(provider, "the answer broke off")
                yield event
        except MycelError:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # Anything can be wrong with what a provider sends, and its words may hold a key: no cause is kept.
            translated = translate(error)
            _log.info("%s: %s, for %s", provider, translated.reason_name, type(error).__name__)
            raise translated from None
