"""Reads OpenAI's JSON into the typed contract. What is wrong is told with the field's full path."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final, TypeVar

from mycel.chat.v1 import types_pb2 as chat
from mycel.error.v1.error_reason_pb2 import ErrorReason
from pydantic import BaseModel, ValidationError

from services.common.errors import MycelError, invalid
from services.router.openai import schema

_Body = TypeVar("_Body", bound=BaseModel)

_DATA_URL: Final = re.compile(r"data:(image/[a-z0-9.+-]+);base64,(.*)", re.IGNORECASE | re.DOTALL)
_MODES: Final = {
    "none": chat.TOOL_CHOICE_MODE_NONE,
    "auto": chat.TOOL_CHOICE_MODE_AUTO,
    "required": chat.TOOL_CHOICE_MODE_REQUIRED,
}
_ROLES: Final = {
    "system": chat.ROLE_SYSTEM,
    "developer": chat.ROLE_DEVELOPER,
    "user": chat.ROLE_USER,
    "assistant": chat.ROLE_ASSISTANT,
    "tool": chat.ROLE_TOOL,
}
_INT32: Final = 2**31
_INT64: Final = 2**63
# Parts of pydantic's error locations that name a branch of a union, not a field.
_BRANCH: Final = re.compile(r"str|NamedToolChoice|(?:list|literal|tagged-union)\[.*")


def parse_body(body: bytes, kind: type[_Body]) -> _Body:
    """Reads a JSON body.

    Raises:
        MycelError: INVALID_JSON when it is no JSON text, INVALID_ARGUMENT when a field is wrong or unknown.
    """
    try:
        # Python reads NaN and Infinity, which JSON does not have: the checks of each field refuse them by name.
        value = json.loads(body.decode("utf-8"))
        if b"\\u" in body:
            _refuse_half_characters(value, "")
    except UnicodeDecodeError as error:
        raise _not_json(f"the body is not valid UTF-8 at byte {error.start}", body[: error.start]) from None
    except json.JSONDecodeError as error:
        raise _not_json(f"the body is not JSON: {error.msg}", error.doc[: error.pos].encode()) from None
    except RecursionError:
        raise _not_json("the body is nested too deeply", b"") from None
    if not isinstance(value, dict):
        raise _not_json("the body is not a JSON object", b"")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _from_pydantic(error) from None


def to_input(request: schema.ChatCompletionRequest) -> chat.ChatInput:
    """Gives the typed input of a chat completion request.

    Raises:
        MycelError: INVALID_ARGUMENT, when a value cannot be expressed in the contract.
    """
    value = chat.ChatInput(
        messages=[_message(message, f"messages[{index}]") for index, message in enumerate(request.messages)],
        tools=[_tool(tool.function, f"tools[{index}]") for index, tool in enumerate(request.tools or ())],
        parameters=_parameters(request),
    )
    match request.tool_choice:
        case str(mode):
            value.tool_choice.mode = _MODES[mode]
        case schema.NamedToolChoice(function=function):
            value.tool_choice.function_name = function.name
    _set_response_format(value, request.response_format)
    return value


def _message(message: schema.Message, path: str) -> chat.Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{path}.role", f"must be one of {', '.join(_ROLES)}")
    typed = chat.Message(
        role=role,
        name=message.name or "",
        tool_call_id=message.tool_call_id or "",
        refusal=message.refusal or "",
        tool_calls=[
            chat.ToolCall(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
            for call in message.tool_calls or ()
        ],
    )
    if isinstance(message.content, str):
        typed.content.add(text=message.content)
    for index, part in enumerate(message.content or () if not isinstance(message.content, str) else ()):
        match part:
            case schema.TextPart():
                typed.content.add(text=part.text)
            case schema.RefusalPart():
                typed.refusal += part.refusal
            case schema.ImagePart():
                typed.content.add(image=_image(part.image_url, f"{path}.content[{index}].image_url.url"))
    return typed


def _image(image: schema.ImageUrl, path: str) -> chat.Image:
    match = _DATA_URL.fullmatch(image.url)
    if match is None:
        return chat.Image(url=image.url, detail=image.detail)
    try:
        data = base64.b64decode(match[2], validate=True)
    except binascii.Error as error:
        raise invalid(path, f"is not base64: {error}") from None
    return chat.Image(data=data, media_type=match[1].lower(), detail=image.detail)


def _tool(function: schema.Function, path: str) -> chat.Tool:
    return chat.Tool(
        name=function.name,
        description=function.description or "",
        parameters_schema_json=""
        if function.parameters is None
        else _compact(function.parameters, f"{path}.parameters"),
        strict=function.strict,
    )


def _set_response_format(value: chat.ChatInput, wanted: schema.ResponseFormat | None) -> None:
    if wanted is None or wanted.type == "text":
        return
    if wanted.type == "json_object":
        value.response_format.json_object = True
        return
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise invalid("response_format.json_schema.schema", "is needed with type json_schema")
    value.response_format.json_schema.CopyFrom(
        chat.JsonSchema(
            name=wanted.json_schema.name,
            description=wanted.json_schema.description or "",
            schema_json=_compact(wanted.json_schema.schema_, "response_format.json_schema.schema"),
            strict=wanted.json_schema.strict,
        )
    )


def _parameters(request: schema.ChatCompletionRequest) -> chat.GenerationParameters:
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise invalid("max_tokens", "give max_tokens or max_completion_tokens, not both")
    limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return chat.GenerationParameters(
        max_tokens=_bounded("max_tokens", limit, _INT32),
        temperature=request.temperature,
        top_p=request.top_p,
        seed=_bounded("seed", request.seed, _INT64),
        stop=stop,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logprobs=bool(request.logprobs),
        top_logprobs=_bounded("top_logprobs", request.top_logprobs, _INT32),
        n=_bounded("n", request.n, _INT32),
        logit_bias={_token(token): bias for token, bias in (request.logit_bias or {}).items()},
        parallel_tool_calls=request.parallel_tool_calls,
        reasoning_effort=request.reasoning_effort or "",
    )


def _bounded(field: str, value: int | None, limit: int) -> int | None:
    if value is not None and not -limit <= value < limit:
        raise invalid(field, "is out of range")
    return value


def _token(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise invalid("logit_bias", f"{text[:32]!r} is not a token id")
    return int(text)


def _compact(value: dict[str, Any], path: str) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise invalid(path, f"is not JSON: {error}") from None


def _refuse_half_characters(value: object, path: str) -> None:
    """JSON can escape one half of a surrogate pair, which no UTF-8 can hold."""
    match value:
        case str() if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise invalid(path, "holds half a character (an unpaired surrogate)") from None
        case dict():
            for name, inner in value.items():
                _refuse_half_characters(name, path or "the body")
                _refuse_half_characters(inner, f"{path}.{name}".removeprefix("."))
        case list():
            for index, inner in enumerate(value):
                _refuse_half_characters(inner, f"{path}[{index}]")


def _not_json(message: str, before: bytes) -> MycelError:
    line = before.count(b"\n") + 1
    column = len(before) - (before.rfind(b"\n") + 1) + 1
    return MycelError(
        ErrorReason.ERROR_REASON_INVALID_JSON, message, metadata={"line": str(line), "column": str(column)}
    )


def _from_pydantic(error: ValidationError) -> MycelError:
    # Of a union's branches the one that was entered deepest is what the caller meant.
    first = max(error.errors(include_url=False, include_input=False), key=lambda item: len(item["loc"]))
    path, after_index = "", False
    for part in first["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not after_index and not _BRANCH.fullmatch(part):
            # The name after an index is a content part's type, which only its branch of the union is called by.
            path += f".{part}"
        after_index = isinstance(part, int) and path.endswith(f"content[{part}]")
    reason = "no such field" if first["type"] == "extra_forbidden" else first["msg"]
    if first["type"] == "none_required":
        reason = "is not supported"
    return invalid(path.removeprefix(".") or "the body", reason[:1].lower() + reason[1:])
