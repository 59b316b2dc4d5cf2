"""Turns a ChatInput into what a chat template takes, and refuses what local models cannot do yet."""

from __future__ import annotations

from typing import Final

from mycel.chat.v1 import types_pb2 as chat
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, invalid
from services.inference.chat_template import TemplateMessage

_ROLES: Final = {
    chat.ROLE_SYSTEM: "system",
    chat.ROLE_DEVELOPER: "system",
    chat.ROLE_USER: "user",
    chat.ROLE_ASSISTANT: "assistant",
}


def template_messages(value: chat.ChatInput) -> list[TemplateMessage]:
    """Gives the conversation for a template.

    Raises:
        MycelError: INVALID_ARGUMENT for no messages or an unknown role; UNSUPPORTED_FEATURE for images and tools.
    """
    if not value.messages:
        raise invalid("messages", "at least one message is needed")
    return [_template_message(message, f"messages[{index}]") for index, message in enumerate(value.messages)]


def refuse_unsupported(value: chat.ChatInput) -> None:
    """Refuses what this service would have to ignore.

    Raises:
        MycelError: UNSUPPORTED_FEATURE, naming the field.
    """
    if value.tools:
        raise _unsupported("tools", "calling tools")
    if value.parameters.n > 1:
        raise _unsupported("n", "several answers to one request")
    if value.parameters.reasoning_effort:
        raise _unsupported("reasoning_effort", "choosing how long to reason")


def _template_message(message: chat.Message, path: str) -> TemplateMessage:
    if message.role == chat.ROLE_TOOL or message.tool_calls:
        raise _unsupported(f"{path}.{'tool_calls' if message.tool_calls else 'role'}", "calling tools")
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{path}.role", "must be one of system, developer, user, assistant, tool")
    texts = []
    for index, part in enumerate(message.content):
        if part.WhichOneof("part") == "image":
            raise _unsupported(f"{path}.content[{index}].image", "looking at images")
        texts.append(part.text)
    return {"role": role, "content": "".join(texts) or message.refusal}


def _unsupported(field: str, what: str) -> MycelError:
    return MycelError(
        ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
        f"{field}: local models do not support {what}",
        field=field,
    )
