"""EmbeddingService in front of the hosted providers."""

from __future__ import annotations

from typing import Any, Final

import grpc
import numpy as np
from mycel.embedding.v1 import embedding_service_pb2 as embedding
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer

from services.common.errors import MycelError, invalid
from services.provider.adapter import Embedded
from services.provider.failures import malformed
from services.provider.registry import Registry
from services.provider.requirements import unsupported

MAX_TEXTS: Final = 256
MAX_TEXT_BYTES: Final = 1024 * 1024


class EmbeddingServicer(EmbeddingServiceServicer):
    """Serves EmbeddingService from the configured providers that embed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def Embed(
        self, request: embedding.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> embedding.EmbedResponse:
        served = self._registry.find(request.model or self._registry.embedder())
        if not served.model.capabilities.embeddings:
            raise unsupported(served.model, "model", "does not embed")
        _check(request)
        try:
            answer = await served.adapter.embed(served.model, request.texts)
            vectors = _unit_vectors(answer, len(request.texts), served.provider)
        except MycelError as error:
            served.adapter.standing.saw_failure(error)
            raise
        return embedding.EmbedResponse(
            embeddings=[embedding.Embedding(values=vector) for vector in vectors],
            embedder_id=f"{served.provider}/{served.model.upstream}",
            prompt_tokens=answer.prompt_tokens,
        )


def _check(request: embedding.EmbedRequest) -> None:
    if not 1 <= len(request.texts) <= MAX_TEXTS:
        raise invalid("texts", f"{len(request.texts)} texts, 1 to {MAX_TEXTS} are accepted")
    for index, text in enumerate(request.texts):
        if not text:
            raise invalid(f"texts[{index}]", "must not be empty")
        if len(text.encode()) > MAX_TEXT_BYTES:
            raise invalid(f"texts[{index}]", f"is longer than {MAX_TEXT_BYTES} bytes")


def _unit_vectors(answer: Embedded, wanted: int, provider: str) -> list[list[float]]:
    """Gives the vectors at unit length, as the contract has them."""
    try:
        matrix = np.asarray(answer.vectors, dtype=np.float32)
    except (ValueError, TypeError):
        raise malformed(provider, "its vectors are not all of one length") from None
    if matrix.ndim != 2 or len(matrix) != wanted or not np.isfinite(matrix).all():  # noqa: PLR2004
        raise malformed(provider, f"gave no {wanted} vectors of numbers")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    vectors: list[list[float]] = (matrix / np.where(lengths > 0, lengths, 1)).tolist()
    return vectors
