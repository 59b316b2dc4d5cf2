"""Checks a request's input once, for the typed and the OpenAI surface alike. Every refusal names the field."""

from __future__ import annotations

import json
import math
import re
from typing import Final, Literal, TypeAlias

from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError, invalid

MAX_MESSAGES: Final = 4096
MAX_TOOLS: Final = 128
MAX_STOP: Final = 16
MAX_IMAGE_BYTES: Final = 20 * 1024 * 1024

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

_Ranged: TypeAlias = Literal["temperature", "presence_penalty", "frequency_penalty", "max_tokens", "top_logprobs", "n"]
# Field, least, most; NaN is outside of every range.
_RANGES: Final[tuple[tuple[_Ranged, float, float], ...]] = (
    ("temperature", 0.0, 2.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("max_tokens", 1, 2**31 - 1),
    ("top_logprobs", 0, 20),
    ("n", 1, 16),
)


def check_input(value: chat.ChatInput) -> None:
    """Refuses an input that no model can be asked with.

    Raises:
        MycelError: INVALID_ARGUMENT, naming the first field that is wrong by its full path.
    """
    if not value.messages:
        raise invalid("messages", "at least one message is needed")
    if len(value.messages) > MAX_MESSAGES:
        raise invalid("messages", f"{len(value.messages)} messages, at most {MAX_MESSAGES} are accepted")
    for index, message in enumerate(value.messages):
        _check_message(message, f"messages[{index}]")
    last = value.messages[-1].role
    if last not in (chat.ROLE_USER, chat.ROLE_TOOL, chat.ROLE_SYSTEM, chat.ROLE_DEVELOPER):
        raise invalid(f"messages[{len(value.messages) - 1}].role", "the last message must not be the assistant's")
    _check_tools(value)
    _check_parameters(value.parameters)
    if value.response_format.WhichOneof("format") == "json_schema":
        schema = value.response_format.json_schema
        _check_name(schema.name, "response_format.json_schema.name")
        _check_json_object(schema.schema_json, "response_format.json_schema.schema")


def _check_message(message: chat.Message, path: str) -> None:
    if message.role == chat.ROLE_UNSPECIFIED or message.role not in chat.Role.values():
        raise invalid(f"{path}.role", "must be one of system, developer, user, assistant, tool")
    if not message.content and not message.tool_calls and not message.refusal:
        raise invalid(f"{path}.content", "must not be empty")
    for index, part in enumerate(message.content):
        _check_part(part, f"{path}.content[{index}]", message.role)
    if message.role in (chat.ROLE_USER, chat.ROLE_TOOL) and not _says_something(message):
        raise invalid(f"{path}.content", "must not be empty")
    if message.tool_calls and message.role != chat.ROLE_ASSISTANT:
        raise invalid(f"{path}.tool_calls", "only an assistant's message calls tools")
    if message.role == chat.ROLE_TOOL and not message.tool_call_id:
        raise invalid(f"{path}.tool_call_id", "a tool's message names the call that it answers")
    for index, call in enumerate(message.tool_calls):
        if not call.id:
            raise invalid(f"{path}.tool_calls[{index}].id", "must not be empty")
        _check_name(call.name, f"{path}.tool_calls[{index}].name")


def _check_part(part: chat.ContentPart, path: str, role: chat.Role.ValueType) -> None:
    kind = part.WhichOneof("part")
    if kind is None:
        raise invalid(path, "is neither text nor an image")
    if kind == "text":
        return
    if role != chat.ROLE_USER:
        raise invalid(f"{path}.image", "only a user's message holds images")
    image = part.image
    source = image.WhichOneof("source")
    if source is None:
        raise invalid(f"{path}.image", "needs a url or data")
    if source == "url" and not image.url.startswith("https://"):
        raise invalid(f"{path}.image.url", "must be an https address")
    if source == "data" and not 0 < len(image.data) <= MAX_IMAGE_BYTES:
        raise invalid(f"{path}.image.data", f"{len(image.data)} bytes, 1 to {MAX_IMAGE_BYTES} are accepted")
    if source == "data" and not image.media_type.startswith("image/"):
        raise invalid(f"{path}.image.media_type", "is needed with data, such as image/png")
    if image.detail not in ("", "auto", "low", "high"):
        raise invalid(f"{path}.image.detail", "must be auto, low or high")


def _says_something(message: chat.Message) -> bool:
    return message.role == chat.ROLE_TOOL or any(
        part.WhichOneof("part") == "image" or part.text.strip() for part in message.content
    )


def _check_tools(value: chat.ChatInput) -> None:
    if len(value.tools) > MAX_TOOLS:
        raise invalid("tools", f"{len(value.tools)} tools, at most {MAX_TOOLS} are accepted")
    names: set[str] = set()
    for index, tool in enumerate(value.tools):
        path = f"tools[{index}]"
        _check_name(tool.name, f"{path}.name")
        if tool.name in names:
            raise invalid(f"{path}.name", f"{tool.name!r} is the name of an earlier tool")
        names.add(tool.name)
        if tool.parameters_schema_json:
            _check_json_object(tool.parameters_schema_json, f"{path}.parameters")
    choice = value.tool_choice.WhichOneof("choice")
    if choice == "function_name" and value.tool_choice.function_name not in names:
        raise invalid("tool_choice", f"{value.tool_choice.function_name!r} is none of the tools")
    if choice == "mode" and value.tool_choice.mode == chat.TOOL_CHOICE_MODE_REQUIRED and not names:
        raise invalid("tool_choice", "a tool is required, but there are none")


def _check_parameters(parameters: chat.GenerationParameters) -> None:
    for name, least, most in _RANGES:
        if parameters.HasField(name):
            value = getattr(parameters, name)
            if not least <= value <= most:
                raise invalid(name, f"{value} is not between {least} and {most}")
    if parameters.HasField("top_p") and not 0.0 < parameters.top_p <= 1.0:
        raise invalid("top_p", f"{parameters.top_p} is not above 0 and up to 1")
    if parameters.HasField("top_logprobs") and not parameters.logprobs:
        raise invalid("top_logprobs", "needs logprobs")
    if len(parameters.stop) > MAX_STOP:
        raise invalid("stop", f"{len(parameters.stop)} texts, at most {MAX_STOP} are accepted")
    if any(not text for text in parameters.stop):
        raise invalid("stop", "a text must not be empty")
    for token, bias in parameters.logit_bias.items():
        if math.isnan(bias) or not -100 <= bias <= 100:  # noqa: PLR2004
            raise invalid("logit_bias", f"{bias} for token {token} is not between -100 and 100")


def _check_name(name: str, path: str) -> None:
    if not _NAME.fullmatch(name):
        raise invalid(path, "must be 1 to 64 letters, digits, `_` or `-`")


def _check_json_object(text: str, path: str) -> None:
    error: MycelError | None = None
    try:
        if not isinstance(json.loads(text), dict):
            error = invalid(path, "must be a JSON object")
    except (ValueError, RecursionError) as cause:
        error = invalid(path, f"is not JSON: {cause}")
    if error is not None:
        raise error
