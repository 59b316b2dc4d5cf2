"""The contract's messages in the form of OpenAI's chat completions API, and back."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from mycel.chat.v1 import types_pb2 as chat
from openai.types import CompletionUsage
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDeltaToolCall

_ROLES: Final = {
    chat.ROLE_SYSTEM: "system",
    chat.ROLE_DEVELOPER: "developer",
    chat.ROLE_USER: "user",
    chat.ROLE_ASSISTANT: "assistant",
    chat.ROLE_TOOL: "tool",
}
_MODES: Final = {
    chat.TOOL_CHOICE_MODE_NONE: "none",
    chat.TOOL_CHOICE_MODE_AUTO: "auto",
    chat.TOOL_CHOICE_MODE_REQUIRED: "required",
}
_FINISH: Final = {
    "stop": chat.FINISH_REASON_STOP,
    "length": chat.FINISH_REASON_LENGTH,
    "tool_calls": chat.FINISH_REASON_TOOL_CALLS,
    "function_call": chat.FINISH_REASON_TOOL_CALLS,
    "content_filter": chat.FINISH_REASON_CONTENT_FILTER,
}


def request(model: str, value: chat.ChatInput, *, newer_names: bool = True) -> dict[str, Any]:
    """Gives the keyword arguments of the SDK's `chat.completions.create`, streaming aside.

    Args:
        model: the provider's name of the model.
        value: the input.
        newer_names: whether the developer's role and `max_completion_tokens` are known; else `system`, `max_tokens`.
    """
    body: dict[str, Any] = {"model": model, "messages": [_message(message, newer_names) for message in value.messages]}
    if value.tools:
        body["tools"] = [_tool(tool) for tool in value.tools]
    match value.tool_choice.WhichOneof("choice"):
        case "mode" if value.tool_choice.mode in _MODES:
            body["tool_choice"] = _MODES[value.tool_choice.mode]
        case "function_name":
            body["tool_choice"] = {"type": "function", "function": {"name": value.tool_choice.function_name}}
    response_format = _response_format(value.response_format)
    if response_format is not None:
        body["response_format"] = response_format
    return body | _parameters(value.parameters, newer_names)


def delta(choice: Choice) -> chat.ChoiceDelta:
    """Reads a piece of an answer. An unknown finish reason ends the answer as `stop` does."""
    piece = choice.delta
    logprobs = choice.logprobs.content if choice.logprobs else None
    finish = chat.FINISH_REASON_UNSPECIFIED
    if choice.finish_reason:
        finish = _FINISH.get(choice.finish_reason, chat.FINISH_REASON_STOP)
    return chat.ChoiceDelta(
        index=choice.index,
        text=(piece.content or "") if piece else "",
        refusal=(piece.refusal or "") if piece else "",
        tool_calls=[_call(call) for call in (piece.tool_calls or ())] if piece else [],
        logprobs=[
            chat.TokenLogprob(
                token=token.token,
                logprob=token.logprob,
                token_bytes=bytes(token.bytes or ()),
                top=[
                    chat.TopLogprob(token=top.token, logprob=top.logprob, token_bytes=bytes(top.bytes or ()))
                    for top in token.top_logprobs or ()
                ],
            )
            for token in logprobs or ()
        ],
        finish_reason=finish,
    )


def usage(told: CompletionUsage) -> chat.Usage:
    """Reads the tokens used; a negative count is none."""
    cached = told.prompt_tokens_details.cached_tokens if told.prompt_tokens_details else 0
    reasoning = told.completion_tokens_details.reasoning_tokens if told.completion_tokens_details else 0
    return chat.Usage(
        prompt_tokens=max(told.prompt_tokens or 0, 0),
        completion_tokens=max(told.completion_tokens or 0, 0),
        cached_prompt_tokens=max(cached or 0, 0),
        reasoning_tokens=max(reasoning or 0, 0),
    )


def _message(message: chat.Message, newer_names: bool) -> dict[str, Any]:
    role = message.role
    if role == chat.ROLE_DEVELOPER and not newer_names:
        role = chat.ROLE_SYSTEM
    body: dict[str, Any] = {"role": _ROLES[role]}
    if message.content:
        body["content"] = _content(message)
    if message.name:
        body["name"] = message.name
    if message.refusal:
        body["refusal"] = message.refusal
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
    return body


def _content(message: chat.Message) -> str | list[dict[str, Any]]:
    if len(message.content) == 1 and message.content[0].WhichOneof("part") == "text":
        return message.content[0].text
    return [
        {"type": "text", "text": part.text} if part.WhichOneof("part") == "text" else _image(part.image)
        for part in message.content
    ]


def _image(image: chat.Image) -> dict[str, Any]:
    url = image.url or f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, **({"detail": image.detail} if image.detail else {})}}


def _tool(tool: chat.Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_schema_json:
        function["parameters"] = json.loads(tool.parameters_schema_json)
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _response_format(wanted: chat.ResponseFormat) -> dict[str, Any] | None:
    match wanted.WhichOneof("format"):
        case "json_object" if wanted.json_object:
            return {"type": "json_object"}
        case "json_schema":
            schema: dict[str, Any] = {
                "name": wanted.json_schema.name,
                "schema": json.loads(wanted.json_schema.schema_json),
            }
            if wanted.json_schema.description:
                schema["description"] = wanted.json_schema.description
            if wanted.json_schema.HasField("strict"):
                schema["strict"] = wanted.json_schema.strict
            return {"type": "json_schema", "json_schema": schema}
        case _:
            return None


def _parameters(given: chat.GenerationParameters, newer_names: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        name: getattr(given, ours)
        for name, ours in (
            ("max_completion_tokens" if newer_names else "max_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("seed", "seed"),
            ("presence_penalty", "presence_penalty"),
            ("frequency_penalty", "frequency_penalty"),
            ("top_logprobs", "top_logprobs"),
            ("n", "n"),
            ("parallel_tool_calls", "parallel_tool_calls"),
        )
        if given.HasField(ours)  # type: ignore[arg-type]
    }
    if given.stop:
        body["stop"] = list(given.stop)
    if given.logprobs:
        body["logprobs"] = True
    if given.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in given.logit_bias.items()}
    if given.reasoning_effort:
        body["reasoning_effort"] = given.reasoning_effort
    return body


def _call(piece: ChoiceDeltaToolCall) -> chat.ToolCallDelta:
    function = piece.function
    return chat.ToolCallDelta(
        index=piece.index,
        id=piece.id or "",
        name=(function.name or "") if function else "",
        arguments_json=(function.arguments or "") if function else "",
    )
