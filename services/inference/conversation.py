"""Turns a ChatInput into what a chat template takes, and refuses what local models cannot do."""

from __future__ import annotations

import json
from typing import Any, Final

from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import invalid
from services.inference.chat_template import TemplateMessage
from services.inference.tools import unsupported

_ROLES: Final = {
    chat.ROLE_SYSTEM: "system",
    chat.ROLE_DEVELOPER: "system",
    chat.ROLE_USER: "user",
    chat.ROLE_ASSISTANT: "assistant",
    chat.ROLE_TOOL: "tool",
}


def template_messages(value: chat.ChatInput, *, takes_tools: bool) -> list[TemplateMessage]:
    """Gives the conversation for a template.

    Args:
        value: the input.
        takes_tools: whether the model's template knows tools.

    Raises:
        MycelError: INVALID_ARGUMENT for no messages or an unknown role; UNSUPPORTED_FEATURE for images, and for tools
            that the model does not know.
    """
    if not value.messages:
        raise invalid("messages", "at least one message is needed")
    messages = []
    for index, message in enumerate(value.messages):
        path = f"messages[{index}]"
        if not takes_tools and (message.role == chat.ROLE_TOOL or message.tool_calls):
            raise unsupported(f"{path}.{'tool_calls' if message.tool_calls else 'role'}", "calling tools")
        messages.append(_template_message(message, path))
    return messages


def refuse_unsupported(value: chat.ChatInput) -> None:
    """Refuses what this service would have to ignore.

    Raises:
        MycelError: UNSUPPORTED_FEATURE, naming the field.
    """
    if value.parameters.n > 1:
        raise unsupported("n", "several answers to one request")
    if value.parameters.reasoning_effort:
        raise unsupported("reasoning_effort", "choosing how long to reason")


def _template_message(message: chat.Message, path: str) -> TemplateMessage:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{path}.role", "must be one of system, developer, user, assistant, tool")
    texts = []
    for index, part in enumerate(message.content):
        if part.WhichOneof("part") == "image":
            raise unsupported(f"{path}.content[{index}].image", "looking at images")
        texts.append(part.text)
    made: dict[str, Any] = {"role": role, "content": "".join(texts) or message.refusal}
    # Templates ask whether these are there at all.
    if message.name:
        made["name"] = message.name
    if message.tool_call_id:
        made["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        made["tool_calls"] = [_template_call(call) for call in message.tool_calls]
    return made


def _template_call(call: chat.ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments_json or "{}")
    except (ValueError, RecursionError):
        arguments = call.arguments_json  # as some model wrote it
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
