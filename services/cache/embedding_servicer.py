"""EmbeddingService on the built-in model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
from mycel.embedding.v1 import embedding_service_pb2 as pb
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.cache.embedder import Embedder
from services.cache.workers import Workers
from services.common.errors import MycelError, invalid

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_TEXTS: Final = 256
_MAX_TEXT_BYTES: Final = 1024 * 1024

_AT_ONCE: Final = 8
"""Texts embedded before lookups that wait get their turn: at most a quarter of a second."""


class EmbeddingServicer(EmbeddingServiceServicer):
    """Serves EmbeddingService from an embedder."""

    def __init__(self, embedder: Embedder, compute: Workers) -> None:
        """Makes a servicer.

        Args:
            embedder: makes the vectors; it is known by its id up to the first slash.
            compute: the threads that it runs on.
        """
        self._embedder = embedder
        self._compute = compute
        self._model = embedder.id.partition("/")[0]

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        if request.model not in ("", self._model):
            raise MycelError(
                ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
                f"no embedding model is called {request.model[:128]!r}; there is {self._model}",
                field="model",
                metadata={"model": request.model[:128], "known": self._model},
            )
        texts = _checked(request.texts)
        response = pb.EmbedResponse(embedder_id=self._embedder.id)
        for begin in range(0, len(texts), _AT_ONCE):
            embedded = await self._compute.run(self._embedder.embed, texts[begin : begin + _AT_ONCE])
            for embedding in embedded:
                response.embeddings.add(values=embedding.vector.tolist())
                response.prompt_tokens += embedding.tokens
        return response


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if not 1 <= len(texts) <= _MAX_TEXTS:
        raise invalid("texts", f"1 to {_MAX_TEXTS} texts are allowed, not {len(texts)}")
    for number, text in enumerate(texts):
        if len(text) > _MAX_TEXT_BYTES or len(text.encode()) > _MAX_TEXT_BYTES:
            raise invalid(f"texts[{number}]", f"has more than {_MAX_TEXT_BYTES} bytes")
    return texts
