"""Refuses, before anything is sent, what a model cannot do: nothing that was asked for is dropped without a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from mycel.chat.v1 import types_pb2 as chat
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError
from services.provider.capabilities import Model

Refusal: TypeAlias = tuple[str, str]
"""A field's full path, and what the model cannot do about it."""

_FORCED: Final = (chat.TOOL_CHOICE_MODE_REQUIRED,)


def check(model: Model, value: chat.ChatInput) -> None:
    """Checks that a model can do what an input wants.

    Raises:
        MycelError: UNSUPPORTED_FEATURE, naming the first field that it cannot do.
    """
    for field, why in _refusals(model, value):
        raise unsupported(model, field, why)


def unsupported(model: Model, field: str, why: str) -> MycelError:
    """Gives the error for a field that a model cannot do."""
    return MycelError(
        ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
        f"{field}: {model.name} {why}",
        field=field,
        metadata={"model": model.name},
    )


def _refusals(model: Model, value: chat.ChatInput) -> Iterator[Refusal]:
    if not model.capabilities.chat:
        yield "model", "does not answer conversations"
    yield from _messages(model, value)
    yield from _tools(model, value)
    yield from _form(model, value)
    yield from _sampling(model, value.parameters)
    yield from _parameters(model, value.parameters)


def _messages(model: Model, value: chat.ChatInput) -> Iterator[Refusal]:
    can = model.capabilities
    for index, message in enumerate(value.messages):
        path = f"messages[{index}]"
        if message.name and not can.names:
            yield f"{path}.name", "does not take the names of speakers"
        for place, part in enumerate(message.content):
            if part.WhichOneof("part") == "image":
                yield from _image(model, part.image, f"{path}.content[{place}].image")
    last = len(value.messages) - 1
    if last >= 0 and value.messages[last].role == chat.ROLE_ASSISTANT and not can.prefix_continuation:
        yield f"messages[{last}].role", "does not go on with an assistant's message"


def _image(model: Model, image: chat.Image, path: str) -> Iterator[Refusal]:
    can = model.capabilities
    if not can.images:
        yield path, "does not see pictures"
    if image.WhichOneof("source") == "url" and not can.image_urls:
        yield f"{path}.url", "takes pictures as data only"
    if image.detail not in ("", "auto") and not can.image_detail:
        yield f"{path}.detail", "does not take it"


def _tools(model: Model, value: chat.ChatInput) -> Iterator[Refusal]:
    can = model.capabilities
    called = next((index for index, message in enumerate(value.messages) if message.tool_calls), None)
    if value.tools and not can.tools:
        yield "tools", "does not call tools"
    if called is not None and not can.tools:
        yield f"messages[{called}].tool_calls", "does not call tools"
    for index, tool in enumerate(value.tools):
        if tool.strict and not can.strict_tools:
            yield f"tools[{index}].strict", "cannot be held to a tool's schema"
    choice = value.tool_choice
    forced = choice.WhichOneof("choice") == "function_name" or choice.mode in _FORCED
    if forced and not can.tool_choice:
        yield "tool_choice", "cannot be made to call a tool"
    parallel = value.parameters
    if parallel.HasField("parallel_tool_calls") and not parallel.parallel_tool_calls and not can.parallel_tool_calls:
        yield "parallel_tool_calls", "cannot be kept from calling several tools at once"


def _form(model: Model, value: chat.ChatInput) -> Iterator[Refusal]:
    wanted = value.response_format
    match wanted.WhichOneof("format"):
        case "json_object" if wanted.json_object and not model.capabilities.json_object:
            yield "response_format", "cannot be held to JSON"
        case "json_schema" if not model.capabilities.json_schema:
            yield "response_format", "cannot be held to a JSON Schema"


def _sampling(model: Model, given: chat.GenerationParameters) -> Iterator[Refusal]:
    # 1 is what every provider takes when nothing is said.
    can = model.capabilities
    if given.HasField("temperature") and given.temperature != 1:
        if not can.sampling:
            yield "temperature", "does not take it"
        if given.temperature > can.max_temperature:
            yield "temperature", f"takes 0 to {can.max_temperature:g}"
    if given.HasField("top_p") and given.top_p != 1 and not can.sampling:
        yield "top_p", "does not take it"
    for field, penalty in (
        ("presence_penalty", given.presence_penalty),
        ("frequency_penalty", given.frequency_penalty),
    ):
        if penalty and not can.penalties:
            yield field, "does not take penalties"


def _parameters(model: Model, given: chat.GenerationParameters) -> Iterator[Refusal]:
    can = model.capabilities
    if given.HasField("seed") and not can.seed:
        yield "seed", "does not take a seed"
    if len(given.stop) > can.stops:
        yield "stop", f"takes {can.stops or 'no'} stop texts"
    if given.n > can.answers:
        yield "n", f"gives {can.answers} at a time"
    if given.logprobs and not can.logprobs:
        yield "logprobs", "does not tell log probabilities"
    if given.logit_bias and not can.logit_bias:
        yield "logit_bias", "does not take it"
    if given.reasoning_effort and not can.reasoning_effort:
        yield "reasoning_effort", "does not take it"
