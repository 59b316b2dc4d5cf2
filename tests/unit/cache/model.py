"""Where the tests find the embedding model, and requests to try."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.chat.v1 import types_pb2 as chat

from services.cache.embedder import MiniLmEmbedder
from services.common.settings import runtime


def model_folder() -> Path:
    """The prepared model; without it a test is skipped, in CI it fails."""
    folder = runtime() / "minilm"
    if not (folder / "manifest.json").is_file():
        message = f"the embedding model is not in {folder}: run `make setup`"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@cache
def embedder() -> MiniLmEmbedder:
    return MiniLmEmbedder(model_folder())


def user(text: str) -> chat.Message:
    return chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])


def system(text: str) -> chat.Message:
    return chat.Message(role=chat.ROLE_SYSTEM, content=[chat.ContentPart(text=text)])


def asked(text: str) -> chat.ChatInput:
    return chat.ChatInput(messages=[user(text)])


def answered(text: str, *, model: str = "llama-local") -> pb.StoredAnswer:
    message = chat.Message(role=chat.ROLE_ASSISTANT, content=[chat.ContentPart(text=text)])
    choice = chat.Choice(message=message, finish_reason=chat.FINISH_REASON_STOP)
    return pb.StoredAnswer(choices=[choice], model=model, provider="local", cost_usd=0.01)
