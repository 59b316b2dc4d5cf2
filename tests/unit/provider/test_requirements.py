"""What a model cannot do is refused with the field named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.provider.capabilities import Capabilities, Model
from services.provider.requirements import check

ALL = Capabilities(prefix_continuation=True)


def _everything() -> chat.ChatInput:
    value = chat.ChatInput()
    user = value.messages.add(role=chat.ROLE_USER, name="ann")
    user.content.add(text="hello")
    user.content.add(image=chat.Image(url="https://example.org/a.png", detail="high"))
    value.messages.add(role=chat.ROLE_ASSISTANT).content.add(text="so far")
    value.tools.add(name="f", strict=True)
    value.tool_choice.function_name = "f"
    value.response_format.json_schema.name = "s"
    value.parameters.CopyFrom(
        chat.GenerationParameters(
            temperature=1.5,
            top_p=0.5,
            seed=1,
            stop=["a", "b"],
            presence_penalty=1,
            logprobs=True,
            n=2,
            logit_bias={1: 2.0},
            parallel_tool_calls=False,
            reasoning_effort="low",
        )
    )
    return value


@pytest.mark.parametrize(
    ("lacking", "field"),
    [
        ({"chat": False}, "model"),
        ({"names": False}, "messages[0].name"),
        ({"images": False}, "messages[0].content[1].image"),
        ({"image_urls": False}, "messages[0].content[1].image.url"),
        ({"image_detail": False}, "messages[0].content[1].image.detail"),
        ({"prefix_continuation": False}, "messages[1].role"),
        ({"tools": False}, "tools"),
        ({"strict_tools": False}, "tools[0].strict"),
        ({"tool_choice": False}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"json_schema": False}, "response_format"),
        ({"sampling": False}, "temperature"),
        ({"max_temperature": 1.0}, "temperature"),
        ({"penalties": False}, "presence_penalty"),
        ({"seed": False}, "seed"),
        ({"stops": 1}, "stop"),
        ({"answers": 1}, "n"),
        ({"logprobs": False}, "logprobs"),
        ({"logit_bias": False}, "logit_bias"),
        ({"reasoning_effort": False}, "reasoning_effort"),
    ],
)
def test_what_is_lacking_is_named(lacking: dict[str, object], field: str) -> None:
    check(Model("m", "up", ALL), _everything())
    with pytest.raises(MycelError) as caught:
        check(Model("m", "up", replace(ALL, **lacking)), _everything())
    assert (caught.value.reason_name, caught.value.field) == ("UNSUPPORTED_FEATURE", field)
    assert caught.value.meaning.failover
    assert caught.value.metadata["model"] == "m"


def test_what_is_not_asked_for_is_not_needed() -> None:
    none = Capabilities(
        tools=False,
        tool_choice=False,
        parallel_tool_calls=False,
        images=False,
        json_object=False,
        json_schema=False,
        logprobs=False,
        answers=1,
        stops=0,
        seed=False,
        sampling=False,
        penalties=False,
    )
    value = chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="hi")])])
    value.parameters.CopyFrom(
        chat.GenerationParameters(temperature=1, top_p=1, n=1, presence_penalty=0, parallel_tool_calls=True)
    )
    value.response_format.json_object = False
    check(Model("m", "up", none), value)
