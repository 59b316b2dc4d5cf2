"""The contract's input in the form of Anthropic's API, and what only it cannot express."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from mycel.chat.v1 import types_pb2 as chat
from pydantic import TypeAdapter

from services.common.errors import MycelError
from services.provider.capabilities import Capabilities, Model
from services.provider.kinds.anthropic.answer import Answer
from services.provider.kinds.anthropic.facts import facts
from services.provider.kinds.anthropic.wire import JSON_TOOL, request

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def _model(upstream: str = "claude-haiku-4-5") -> Model:
    return Model("m", upstream, facts(upstream))


def _input(*messages: tuple[chat.Role.ValueType, str]) -> chat.ChatInput:
    value = chat.ChatInput()
    for role, text in messages or ((chat.ROLE_USER, "hi"),):
        value.messages.add(role=role).content.add(text=text)
    return value


def _refused(value: chat.ChatInput, upstream: str = "claude-haiku-4-5") -> str:
    with pytest.raises(MycelError) as caught:
        request(_model(upstream), value)
    assert caught.value.reason_name == "UNSUPPORTED_FEATURE"
    return caught.value.field


def test_a_limit_is_always_sent() -> None:
    value = _input()
    assert request(_model(), value).body["max_tokens"] == 64_000
    value.parameters.max_tokens = 9
    assert request(_model(), value).body["max_tokens"] == 9
    value.parameters.max_tokens = 10**6
    assert request(_model(), value).body["max_tokens"] == 64_000
    assert request(Model("m", "claude-x", Capabilities()), _input()).body["max_tokens"] == 4096


def test_instructions_stand_apart_and_turns_are_joined() -> None:
    value = _input((chat.ROLE_SYSTEM, "a"), (chat.ROLE_USER, "b"), (chat.ROLE_DEVELOPER, "c"), (chat.ROLE_USER, "d"))
    body = request(_model(), value).body
    assert [block["text"] for block in body["system"]] == ["a", "c"]
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["b", "d"]
    assert request(_model(), _input((chat.ROLE_SYSTEM, "a"))).body["messages"][0]["role"] == "user"


def test_results_of_parallel_calls_are_one_turn() -> None:
    value = _input()
    turn = value.messages.add(role=chat.ROLE_ASSISTANT)
    for call_id in ("c1", "c2"):
        turn.tool_calls.add(id=call_id, name="f", arguments_json='{"x": 1}')
    for call_id in ("c1", "c2"):
        value.messages.add(role=chat.ROLE_TOOL, tool_call_id=call_id).content.add(text=f"of {call_id}")
    turns = request(_model(), value).body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"][0] == {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}}
    assert [block["tool_use_id"] for block in turns[2]["content"]] == ["c1", "c2"]


def test_broken_arguments_of_an_earlier_call_are_refused() -> None:
    value = _input()
    value.messages.add(role=chat.ROLE_ASSISTANT).tool_calls.add(id="c", name="f", arguments_json="{oops")
    assert _refused(value) == "messages[1].tool_calls[0].arguments_json"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (chat.ToolChoice(), {"type": "auto"}),
        (chat.ToolChoice(mode=chat.TOOL_CHOICE_MODE_AUTO), {"type": "auto"}),
        (chat.ToolChoice(mode=chat.TOOL_CHOICE_MODE_NONE), {"type": "none"}),
        (chat.ToolChoice(mode=chat.TOOL_CHOICE_MODE_REQUIRED), {"type": "any"}),
        (chat.ToolChoice(function_name="f"), {"type": "tool", "name": "f"}),
    ],
)
def test_the_choice_of_tools(choice: chat.ToolChoice, sent: dict[str, Any]) -> None:
    value = _input()
    value.tools.add(name="f", description="d", parameters_schema_json='{"properties": {}}', strict=True)
    value.tool_choice.CopyFrom(choice)
    body = request(_model(), value).body
    assert body["tool_choice"] == sent
    schema = {"type": "object", "properties": {}}
    assert body["tools"] == [{"name": "f", "description": "d", "input_schema": schema, "strict": True}]
    value.parameters.parallel_tool_calls = False
    if sent["type"] != "none":
        assert request(_model(), value).body["tool_choice"]["disable_parallel_tool_use"] is True


def test_sampling_goes_beside_the_sdks_own_parameters() -> None:
    value = _input()
    value.parameters.temperature = 0.5
    assert request(_model(), value).body["extra_body"] == {"temperature": 0.5}
    value.parameters.top_p = 1
    assert request(_model(), value).body["extra_body"] == {"temperature": 0.5}
    value.parameters.top_p = 0.5
    assert _refused(value) == "top_p"
    assert request(_model("claude-3-opus-20240229"), value).body["extra_body"] == {"temperature": 0.5, "top_p": 0.5}
    value.parameters.Clear()
    value.parameters.temperature = 1
    assert "extra_body" not in request(_model(), value).body


def test_stops_and_effort() -> None:
    value = _input()
    value.parameters.stop.append("END")
    value.parameters.reasoning_effort = "low"
    body = request(_model(), value).body
    assert body["stop_sequences"] == ["END"]
    assert body["output_config"] == {"effort": "low"}
    value.parameters.reasoning_effort = "minimal"
    assert _refused(value) == "reasoning_effort"
    value.parameters.reasoning_effort = ""
    value.parameters.stop.append("\n")
    assert _refused(value) == "stop"


def test_a_schema_is_an_output_format_or_a_tool() -> None:
    value = _input()
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    value.response_format.json_schema.schema_json = json.dumps(schema)
    asked = request(_model(), value)
    sent = asked.body["output_config"]["format"]["schema"]
    assert not asked.json_tool
    assert sent["additionalProperties"] is False
    assert sent["properties"]["n"]["type"] == "integer"
    old = request(_model("claude-3-5-sonnet-20241022"), value)
    assert old.json_tool
    assert old.body["tools"][0]["input_schema"] == schema
    assert old.body["tool_choice"]["name"] == JSON_TOOL


def test_json_without_a_schema_is_a_tool() -> None:
    value = _input()
    value.response_format.json_object = True
    assert request(_model(), value).json_tool
    value.tools.add(name="f")
    assert _refused(value) == "response_format"


def test_a_schema_that_cannot_be_held_to_is_refused() -> None:
    value = _input()
    value.response_format.json_schema.schema_json = '{"properties": {"x": {}}}'
    assert _refused(value) == "response_format.json_schema.schema"


def test_space_after_a_prefix_is_neither_sent_nor_said_twice() -> None:
    value = _input((chat.ROLE_USER, "hi"), (chat.ROLE_ASSISTANT, "one two \n"))
    asked = request(_model(), value)
    assert asked.body["messages"][-1]["content"] == [{"type": "text", "text": "one two"}]
    assert asked.stripped_space == " \n"
    for told, given in ((" \nthree", "three"), ("three", "three"), (" \n", "")):
        answer = Answer("p", "m", json_tool=False, given_space=asked.stripped_space)
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": told}}
        pieces = list(answer.read(EVENT.validate_python(event)))
        assert "".join(piece.text for piece in pieces if isinstance(piece, chat.ChoiceDelta)) == given


def test_a_prefix_of_space_alone_is_no_prefix() -> None:
    asked = request(_model(), _input((chat.ROLE_USER, "hi"), (chat.ROLE_ASSISTANT, "  ")))
    assert [turn["role"] for turn in asked.body["messages"]] == ["user"]
