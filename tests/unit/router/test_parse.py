"""OpenAI's JSON into the contract, and the refusals on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.router.openai import schema
from services.router.openai.parse import parse_body, to_input
from services.router.validate import check_input

_USER = {"role": "user", "content": "hello"}


def _read(**fields: Any) -> chat.ChatInput:
    body = {"model": "auto", "messages": [_USER], **fields}
    value = to_input(parse_body(json.dumps(body).encode(), schema.ChatCompletionRequest))
    check_input(value)
    return value


def test_every_field_arrives() -> None:
    value = _read(
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        ],
        tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "look"}},
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        max_completion_tokens=5,
        temperature=0,
        top_p=0.5,
        seed=-7,
        stop="END",
        logprobs=True,
        top_logprobs=2,
        n=2,
        logit_bias={"42": -1.5},
        user="someone",
    )
    assert [message.role for message in value.messages] == [
        chat.ROLE_DEVELOPER,
        chat.ROLE_USER,
        chat.ROLE_ASSISTANT,
        chat.ROLE_TOOL,
    ]
    image = value.messages[1].content[1].image
    assert (image.data, image.media_type, image.detail) == (b"hi", "image/png", "low")
    assert value.messages[2].tool_calls[0].name == "look"
    assert value.messages[3].tool_call_id == "c1"
    assert (value.tools[0].strict, value.tool_choice.function_name) == (True, "look")
    assert json.loads(value.response_format.json_schema.schema_json) == {"type": "object"}
    given_parameters = value.parameters
    assert (given_parameters.max_tokens, given_parameters.temperature, given_parameters.seed) == (5, 0.0, -7)
    assert given_parameters.HasField("temperature")
    assert not given_parameters.HasField("presence_penalty")
    assert list(given_parameters.stop) == ["END"]
    assert dict(given_parameters.logit_bias) == {42: -1.5}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "  \n"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [_USER, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
            "messages[0].content[0].image.url",
        ),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 1e400}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"logit_bias": {"1": float("nan")}}, "logit_bias"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": float("nan")}}}]},
            "tools[0].parameters",
        ),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}] * 2}, "tools[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "a"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"no_such_field": 1}, "no_such_field"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": "\ud800"}}}]},
            "tools[0].function.parameters.x",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(MycelError) as caught:
        _read(**fields)
    assert caught.value.reason_name in ("INVALID_ARGUMENT", "INVALID_JSON")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b"", "1", "1"),
        (b"{", "1", "2"),
        (b'{"a": 1,\n  "b": }', "2", "8"),
        (b'{"model": "\xff"}', "1", "12"),
        (b"[]", "1", "1"),
        (b"[" * 200_000, "1", "1"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(body: bytes, line: str, column: str) -> None:
    with pytest.raises(MycelError) as caught:
        parse_body(body, schema.ChatCompletionRequest)
    assert caught.value.reason_name == "INVALID_JSON"
    assert (caught.value.metadata["line"], caught.value.metadata["column"]) == (line, column)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(sorted(schema.ChatCompletionRequest.model_fields))


@given(st.dictionaries(_fields, _json, max_size=6))
def test_any_json_is_read_or_refused(body: dict[str, Any]) -> None:
    data = json.dumps({"model": "auto", "messages": [_USER], **body}).encode("utf-8", "surrogatepass")
    try:
        check_input(to_input(parse_body(data, schema.ChatCompletionRequest)))
    except MycelError as error:
        assert error.reason_name in ("INVALID_ARGUMENT", "INVALID_JSON")


def test_nan_is_refused_in_the_typed_api() -> None:
    value = chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="x")])])
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        broken = chat.ChatInput()
        broken.CopyFrom(value)
        setattr(broken.parameters, name, float("nan"))
        with pytest.raises(MycelError) as caught:
            check_input(broken)
        assert caught.value.field == name
