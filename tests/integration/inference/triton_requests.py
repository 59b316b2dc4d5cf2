"""Asks a Triton model the way any client of the vLLM backend does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton_grpc

from tests.fakes.tiny_gguf import END_HEADER, END_OF_TURN, START_HEADER

PROMPT = f"{START_HEADER}user{END_HEADER}\n\nWhat do hyphae do?{END_OF_TURN}{START_HEADER}assistant{END_HEADER}\n\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """One streamed response."""

    text: bytes
    finish_reason: str
    prompt_tokens: int
    new_tokens: int


@asynccontextmanager
async def triton_client(address: str) -> AsyncIterator[triton_grpc.InferenceServerClient]:
    client = triton_grpc.InferenceServerClient(address)
    try:
        yield client
    finally:
        await client.close()


async def ask(
    client: triton_grpc.InferenceServerClient,
    model: str,
    prompt: str | bytes | None = PROMPT,
    *,
    stream: bool = True,
    sampling: str | None = None,
    parts: str | None = None,
    deadline: float = 30.0,
    **parameters: Any,
) -> AsyncIterator[Piece]:
    """Streams an answer; sampling parameters are keyword arguments, or `sampling` as raw text.

    Raises:
        InferenceServerException: Triton's error; its text begins with its code.
    """
    inputs = [_tensor("stream", "BOOL", stream)]
    if prompt is not None:
        raw = prompt.encode() if isinstance(prompt, str) else prompt
        inputs.append(_tensor("text_input", "BYTES", raw))
    if parts is not None:
        inputs.append(_tensor("prompt_parts", "BYTES", parts.encode()))
    text = json.dumps({"temperature": 0, "max_tokens": 100, **parameters}) if sampling is None else sampling
    inputs.append(_tensor("sampling_parameters", "BYTES", text.encode()))
    for name in ("finish_reason", "num_input_tokens", "num_output_tokens"):
        inputs.append(_tensor(f"return_{name}", "BOOL", True))

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": model, "inputs": inputs, "enable_empty_final_response": False}

    answers = client.stream_infer(requests(), stream_timeout=deadline)
    failure: Exception | None = None
    ended = False
    try:
        async for result, error in answers:
            if error is not None:
                failure = error  # the stream ends by itself: a cancellation now would be a second end
                continue
            yield Piece(
                text=result.as_numpy("text_output")[0],
                finish_reason=result.as_numpy("finish_reason")[0].decode(),
                prompt_tokens=int(result.as_numpy("num_input_tokens")[0]),
                new_tokens=int(result.as_numpy("num_output_tokens")[0]),
            )
        ended = True
    finally:
        if not ended:
            answers.cancel()
    if failure is not None:
        raise failure


def _tensor(name: str, kind: str, value: bool | bytes) -> triton_grpc.InferInput:
    tensor = triton_grpc.InferInput(name, [1], kind)
    array = np.array([value], dtype=np.object_ if kind == "BYTES" else np.bool_)
    tensor.set_data_from_numpy(array)
    return tensor
