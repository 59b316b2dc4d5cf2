"""Going on after an answer that broke off elsewhere: the conversation as the next model gets it."""

from __future__ import annotations

from typing import Final

from mycel.chat.v1 import types_pb2 as chat

_GO_ON: Final = (
    "Your answer was cut off after its last character. Go on with the answer from exactly there, in the same language, "
    "form and style. Write only what follows: repeat nothing, do not start over, and do not mention the interruption."
)


def continued(value: chat.ChatInput, text: str, *, by_prefix: bool) -> chat.ChatInput:
    """Gives the input with which a model goes on after `text`.

    Args:
        value: the input that was being answered.
        text: the beginning of the answer, which the caller has.
        by_prefix: whether the model goes on with an assistant's message that comes last. Otherwise it is told to.
    """
    more = chat.ChatInput()
    more.CopyFrom(value)
    more.messages.add(role=chat.ROLE_ASSISTANT).content.add(text=text)
    if not by_prefix:
        more.messages.add(role=chat.ROLE_USER).content.add(text=_GO_ON)
    return more
