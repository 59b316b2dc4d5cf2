"""What a kind of provider has to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, TypeAlias

from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

Event: TypeAlias = completion.CompletionStarted | chat.ChoiceDelta | completion.CompletionCompleted


class Adapter(Protocol):
    """One configured provider. Every failure is a `MycelError`."""

    def stream(self, upstream_model: str, value: chat.ChatInput) -> AsyncGenerator[Event, None]:
        """Asks a model: `started`, deltas, `completed`. Closing the generator closes the connection.

        Args:
            upstream_model: the provider's own name of the model.
            value: the checked input.
        """
        ...

    async def aclose(self) -> None:
        """Closes the provider's connections."""
        ...
