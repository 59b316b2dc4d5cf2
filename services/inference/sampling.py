"""Turns the contract's generation parameters into vLLM's sampling parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import invalid

_LLAMA_DEFAULTS: Final = {"temperature": 0.6, "top_p": 0.9}
"""What Llama 3 is published with; for models whose file does not say how they want to be sampled."""


def sampling_parameters(value: chat.ChatInput, context_tokens: int, defaults: Mapping[str, float]) -> dict[str, Any]:
    """Gives the parameters as vLLM names them; Triton's backend checks their values.

    Args:
        value: the input.
        context_tokens: the model's context length, the most that can be generated when the caller sets no limit.
        defaults: what applies where the caller says nothing, from the model's file.

    Raises:
        MycelError: INVALID_ARGUMENT for a schema that is not JSON.
    """
    given = value.parameters
    # Never left to the engine: vLLM's default is 16 tokens.
    parameters: dict[str, Any] = {"max_tokens": context_tokens, **(defaults or _LLAMA_DEFAULTS)}
    for name in ("max_tokens", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"):
        if given.HasField(name):
            parameters[name] = getattr(given, name)
    if given.stop:
        parameters["stop"] = list(given.stop)
    if given.logit_bias:
        parameters["logit_bias"] = {str(token): bias for token, bias in given.logit_bias.items()}
    if given.logprobs:
        parameters["logprobs"] = given.top_logprobs
    structured = _structured_outputs(value.response_format)
    if structured:
        parameters["structured_outputs"] = structured
    return parameters


def _structured_outputs(wanted: chat.ResponseFormat) -> dict[str, Any]:
    match wanted.WhichOneof("format"):
        case "json_object" if wanted.json_object:
            return {"json_object": True}
        case "json_schema":
            try:
                return {"json": json.loads(wanted.json_schema.schema_json)}
            except (ValueError, RecursionError):
                raise invalid("response_format.json_schema.schema", "is not JSON") from None
        case _:
            return {}
