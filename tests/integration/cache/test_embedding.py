"""EmbeddingService over real gRPC."""

from __future__ import annotations

import numpy as np
import pytest
from mycel.embedding.v1 import embedding_service_pb2 as pb

from tests.integration.cache.calls import refusal
from tests.integration.cache.conftest import Clients
from tests.unit.cache.model import embedder


async def test_one_vector_a_text_in_order(clients: Clients):
    texts = [f"text number {number} {'and more ' * (number % 5)}" for number in range(40)]
    response = await clients.embedding.Embed(pb.EmbedRequest(texts=texts), timeout=30)
    assert response.embedder_id == embedder().id
    expected = embedder().embed(texts)
    assert response.prompt_tokens == sum(embedding.tokens for embedding in expected)
    for got, wanted in zip(response.embeddings, expected, strict=True):
        assert float(np.asarray(got.values, dtype=np.float32) @ wanted.vector) > 0.99999


async def test_the_model_by_name_and_no_other(clients: Clients):
    await clients.embedding.Embed(pb.EmbedRequest(model="all-MiniLM-L6-v2", texts=["x"]), timeout=30)
    error = await refusal(clients.embedding.Embed(pb.EmbedRequest(model="ada", texts=["x"]), timeout=30))
    assert (error.reason_name, error.field) == ("MODEL_NOT_FOUND", "model")
    assert error.metadata["known"] == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        ([], "texts"),
        (["x"] * 257, "texts"),
        (["fine", "x" * (2**20 + 1)], "texts[1]"),
        (["é" * 2**19 + "x"], "texts[0]"),
    ],
)
async def test_bounds(clients: Clients, texts: list[str], field: str):
    error = await refusal(clients.embedding.Embed(pb.EmbedRequest(texts=texts), timeout=30))
    assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", field)


async def test_odd_texts(clients: Clients):
    response = await clients.embedding.Embed(pb.EmbedRequest(texts=["", " ", "\x00", "é" * 2**19]), timeout=60)
    for embedding in response.embeddings:
        assert abs(float(np.linalg.norm(embedding.values)) - 1) < 1e-5
