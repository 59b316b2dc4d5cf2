"""The contract's messages in the form of Anthropic's Messages API. `answer.py` reads what comes back."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from anthropic import transform_schema
from mycel.chat.v1 import types_pb2 as chat

from services.provider.capabilities import Model
from services.provider.kinds.anthropic.facts import has_structured_output, takes_one_sampler
from services.provider.requirements import unsupported

JSON_TOOL: Final = "answer_in_json"
"""The tool that stands for the answer where a model cannot be held to JSON in another way."""

_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
_UNKNOWN_MAX_OUTPUT: Final = 4096
_SYSTEM: Final = (chat.ROLE_SYSTEM, chat.ROLE_DEVELOPER)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what has to be remembered of it to read the answer."""

    body: dict[str, Any]
    """The keyword arguments of the SDK's `messages.create`, streaming aside."""
    json_tool: bool
    """Whether calls of JSON_TOOL are the answer's text."""
    stripped_space: str
    """Space at the end of an assistant's last message, which the API refuses: the model may write it again."""


def request(model: Model, value: chat.ChatInput) -> Asked:
    """Gives the request.

    Raises:
        MycelError: UNSUPPORTED_FEATURE, for what only this API cannot express.
    """
    given = value.parameters
    most = model.capabilities.max_output or _UNKNOWN_MAX_OUTPUT
    body: dict[str, Any] = {
        "model": model.upstream,
        "max_tokens": min(given.max_tokens, most) if given.HasField("max_tokens") else most,
        "messages": _messages(model, value),
    }
    system = [text for message in value.messages if message.role in _SYSTEM for text in _texts(message)]
    if system and body["messages"]:
        body["system"] = [{"type": "text", "text": text} for text in system]
    elif system:
        body["messages"] = [{"role": "user", "content": [{"type": "text", "text": text} for text in system]}]
    body |= _tools(value) | _parameters(model, given)
    json_tool = _form(model, value, body)
    return Asked(body, json_tool, _strip_space(body["messages"]))


def _messages(model: Model, value: chat.ChatInput) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(value.messages):
        if message.role in _SYSTEM:
            continue
        role = "assistant" if message.role == chat.ROLE_ASSISTANT else "user"
        content = _content(model, message, f"messages[{index}]")
        # Results of several calls belong into one turn, and turns of the same role are one to the API anyway.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": role, "content": content})
    return turns


def _content(model: Model, message: chat.Message, path: str) -> list[dict[str, Any]]:
    if message.role == chat.ROLE_TOOL:
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        texts = [{"type": "text", "text": text} for text in _texts(message)]
        return [{**result, "content": texts} if texts else result]
    blocks = [_part(part) for part in message.content if part.WhichOneof("part") == "image" or part.text]
    if message.refusal:
        blocks.append({"type": "text", "text": message.refusal})
    for place, call in enumerate(message.tool_calls):
        blocks.append(
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": _arguments(model, call, f"{path}.tool_calls[{place}].arguments_json"),
            }
        )
    return blocks


def _texts(message: chat.Message) -> list[str]:
    return [part.text for part in message.content if part.text]


def _part(part: chat.ContentPart) -> dict[str, Any]:
    if part.WhichOneof("part") == "text":
        return {"type": "text", "text": part.text}
    image = part.image
    if image.url:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    data = base64.b64encode(image.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": data}}


def _arguments(model: Model, call: chat.ToolCall, path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments_json or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise unsupported(model, path, "takes earlier calls with a JSON object as arguments only")
    return arguments


def _tools(value: chat.ChatInput) -> dict[str, Any]:
    if not value.tools:
        return {}
    body: dict[str, Any] = {"tools": [_tool(tool) for tool in value.tools]}
    choice: dict[str, Any] = {"type": "auto"}
    match value.tool_choice.WhichOneof("choice"):
        case "function_name":
            choice = {"type": "tool", "name": value.tool_choice.function_name}
        case "mode" if value.tool_choice.mode == chat.TOOL_CHOICE_MODE_REQUIRED:
            choice = {"type": "any"}
        case "mode" if value.tool_choice.mode == chat.TOOL_CHOICE_MODE_NONE:
            choice = {"type": "none"}
    if value.parameters.HasField("parallel_tool_calls") and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = not value.parameters.parallel_tool_calls
    return {**body, "tool_choice": choice}


def _tool(tool: chat.Tool) -> dict[str, Any]:
    schema = json.loads(tool.parameters_schema_json) if tool.parameters_schema_json else {}
    body: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **schema}}
    if tool.description:
        body["description"] = tool.description
    if tool.strict:
        body["strict"] = True
    return body


def _form(model: Model, value: chat.ChatInput, body: dict[str, Any]) -> bool:
    """Asks for JSON. Tells whether the answer comes as a call of JSON_TOOL."""
    wanted = value.response_format
    kind = wanted.WhichOneof("format")
    if kind is None or (kind == "json_object" and not wanted.json_object):
        return False
    schema: dict[str, Any] = {"type": "object"}
    description = "The answer."
    if kind == "json_schema":
        schema = json.loads(wanted.json_schema.schema_json)
        description = wanted.json_schema.description or description
        if has_structured_output(model.upstream):
            body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": _strict(model, schema)}
            return False
    if value.tools:
        raise unsupported(model, "response_format", "cannot be held to JSON while it has tools")
    if not model.capabilities.tool_choice:
        raise unsupported(model, "response_format", "cannot be held to JSON without a schema")
    body["tools"] = [{"name": JSON_TOOL, "description": description, "input_schema": schema}]
    body["tool_choice"] = {"type": "tool", "name": JSON_TOOL, "disable_parallel_tool_use": True}
    return True


def _strict(model: Model, schema: dict[str, Any]) -> dict[str, Any]:
    """Gives a schema in the API's dialect: closed objects, and what it does not know as a description."""
    try:
        return transform_schema(schema)
    except (ValueError, TypeError, AttributeError, AssertionError) as error:
        raise unsupported(model, "response_format.json_schema.schema", f"cannot be held to it: {error}") from None


def _parameters(model: Model, given: chat.GenerationParameters) -> dict[str, Any]:
    body: dict[str, Any] = {}
    # 1 is the API's own default; models that take no sampling parameters refuse even that.
    sampling: dict[str, Any] = {}
    if given.HasField("temperature") and given.temperature != 1:
        sampling["temperature"] = given.temperature
    if given.HasField("top_p") and given.top_p != 1:
        if sampling and takes_one_sampler(model.upstream):
            raise unsupported(model, "top_p", "takes temperature or top_p, not both")
        sampling["top_p"] = given.top_p
    if sampling:
        body["extra_body"] = sampling
    if given.stop:
        if any(not text.strip() for text in given.stop):
            raise unsupported(model, "stop", "does not stop at space alone")
        body["stop_sequences"] = list(given.stop)
    if given.reasoning_effort:
        if given.reasoning_effort not in _EFFORTS:
            raise unsupported(model, "reasoning_effort", f"takes {', '.join(sorted(_EFFORTS))}")
        body["output_config"] = {"effort": given.reasoning_effort}
    return body


def _strip_space(messages: list[dict[str, Any]]) -> str:
    """Takes the space off the end of an assistant's last message, and gives it."""
    if not messages or messages[-1]["role"] != "assistant" or messages[-1]["content"][-1]["type"] != "text":
        return ""
    block = messages[-1]["content"][-1]
    bare = block["text"].rstrip()
    space = block["text"][len(bare) :]
    if bare:
        block["text"] = bare
    else:
        messages[-1]["content"].pop()
        if not messages[-1]["content"]:
            messages.pop()
    return str(space)
