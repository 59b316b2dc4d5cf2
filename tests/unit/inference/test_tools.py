"""Calls of tools: what is said about them, and how they are read out of an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.inference.conversation import template_messages
from services.inference.deltas import DeltaMaker
from services.inference.pieces import Piece
from services.inference.tool_calls import Call, ToolCallReader
from services.inference.tools import ToolUse, tool_use

NAMES = frozenset({"weather", "note"})
OSLO = '{"place": "Oslo"}'
WEATHER = Call("weather", OSLO)
NOTE = Call("note", "{}")

ANSWERS = [
    ('{"name": "weather", "parameters": {"place": "Oslo"}}', [WEATHER]),
    (' \n{"name": "weather", "parameters": {"place": "Oslo"}}\n', [WEATHER]),
    ('<|python_tag|>{"name": "weather", "parameters": {"place": "Oslo"}}', [WEATHER]),
    ('<|python_tag|> {"type": "function", "name": "note", "parameters": {}}<|eom_id|>', [NOTE]),
    ('{"name": "weather", "parameters": {"place": "Oslo"}}; {"name": "note", "parameters": {}}', [WEATHER, NOTE]),
    ('<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo"}}\n</tool_call>', [WEATHER]),
    (
        'So:\n<tool_call>{"name": "note", "arguments": {}}</tool_call>\n<tool_call>{"name": "note"}</tool_call>',
        ["So:\n", NOTE, NOTE],
    ),
    ('[{"name": "weather", "parameters": {"place": "Oslo"}}, {"name": "note"}]', [WEATHER, NOTE]),
    ("[weather(place='Oslo'), note()]", [WEATHER, NOTE]),
    (
        '[weather(place="a]b\\")", days=[1, {"x": None}])]',
        [Call("weather", '{"place": "a]b\\")", "days": [1, {"x": null}]}')],
    ),
    ('{"name": "weather", "parameters": "{\\"place\\": \\"}{\\"}"}', [Call("weather", '{"place": "}{"}')]),
    ("Plain text.", ["Plain text."]),
    ("It is {not} a [call], < nor <|this|>.", ["It is {not} a [call], < nor <|this|>."]),
    ('{"name": "other", "parameters": {}}', ['{"name": "other", "parameters": {}}']),
    ('{"answer": 42} indeed', ['{"answer": 42} indeed']),
    ('{"name": "weather", "parameters": {"pl', ['{"name": "weather", "parameters": {"pl']),
    ("[1, 2] are numbers", ["[1, 2] are numbers"]),
    ("[__import__('os').system('x')]", ["[__import__('os').system('x')]"]),
    ("[weather(place=open('x'))]", ["[weather(place=open('x'))]"]),
    ("[weather('Oslo')]", ["[weather('Oslo')]"]),
    ("[weather(**{'place': 1})]", ["[weather(**{'place': 1})]"]),
    ('<|python_tag|>print("hi")', ['print("hi")']),
    ("", []),
    ("{", ["{"]),
    ("[" * 5000, ["[" * 5000]),
]


def joined(parts: list) -> list:
    """Text that follows text is one."""
    found: list = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


@pytest.mark.parametrize(("answer", "wanted"), ANSWERS)
def test_calls_are_read_however_the_answer_is_cut(answer: str, wanted: list) -> None:
    for size in (1, 2, 3, 7, len(answer) or 1):
        reader = ToolCallReader(NAMES)
        parts = [part for at in range(0, len(answer), size) for part in reader.feed(answer[at : at + size])]
        parts = joined(parts + reader.finish())
        # White space around calls is not part of the answer.
        assert [part for part in parts if not isinstance(part, str) or part.strip()] == wanted


@given(
    st.lists(
        st.sampled_from(["{", "}", "[", "]", '"', "'", "\\", "<", "<tool", "<|python", "a", " ", ";", "weather()"])
    )
)
def test_no_text_is_lost_when_nothing_is_a_call(pieces: list[str]) -> None:
    reader = ToolCallReader(frozenset({"nothing"}))
    parts = [part for piece in pieces for part in reader.feed(piece)] + reader.finish()
    assert "".join("".join(parts).split()) == "".join("".join(pieces).split())


def test_plain_text_is_not_held_back() -> None:
    reader = ToolCallReader(NAMES)
    assert reader.feed("It") == ["It"]
    assert reader.feed(" is {") == [" is {"]
    assert reader.feed(" <tool") == [" "]
    assert reader.feed("s") == ["<tools"]


def deltas(texts: list[str], tools: ToolUse, finish: str = "stop") -> list[chat.ChoiceDelta]:
    maker = DeltaMaker(tools)
    made = [maker.make(Piece(text, 1, 5)) for text in texts] + [maker.make(Piece("", 0, 5, finish_reason=finish))]
    return [delta for delta in made if delta is not None]


def asked(*names: str, **choice) -> chat.ChatInput:
    schema = {"type": "object", "properties": {"at": {"$ref": "#/$defs/place"}}, "$defs": {"place": {"type": "string"}}}
    value = chat.ChatInput(tools=[chat.Tool(name=name, parameters_schema_json=json.dumps(schema)) for name in names])
    if choice:
        value.tool_choice.CopyFrom(chat.ToolChoice(**choice))
    return value


def test_finish_reason_and_places_of_calls() -> None:
    texts = ['{"name": "weather"}', ";", '{"name": "note"}']
    tools = tool_use(asked("weather", "note"), takes_tools=True)
    made = deltas(texts, tools)
    calls = [call for delta in made for call in delta.tool_calls]
    assert [(call.index, call.name, call.arguments_json) for call in calls] == [(0, "weather", "{}"), (1, "note", "{}")]
    assert len({call.id for call in calls}) == 2
    assert made[-1].finish_reason == chat.FINISH_REASON_TOOL_CALLS
    assert deltas(texts, tools, "length")[-1].finish_reason == chat.FINISH_REASON_LENGTH
    assert deltas(["Hello"], tools)[-1].finish_reason == chat.FINISH_REASON_STOP


def test_one_call_at_a_time() -> None:
    value = asked("weather", "note")
    value.parameters.parallel_tool_calls = False
    made = deltas(['{"name": "weather"};{"name": "note"}'], tool_use(value, takes_tools=True))
    assert [call.name for delta in made for call in delta.tool_calls] == ["weather"]


def test_choice_of_tools() -> None:
    assert tool_use(asked(), takes_tools=False) == ToolUse()
    assert tool_use(asked("f", mode=chat.TOOL_CHOICE_MODE_NONE), takes_tools=False).sampling() == {}
    auto = tool_use(asked("f", mode=chat.TOOL_CHOICE_MODE_AUTO), takes_tools=True)
    assert auto.sampling() == {"skip_special_tokens": False}
    one = tool_use(asked("f", "g", function_name="g"), takes_tools=True).sampling()["structured_outputs"]["json"]
    assert one["properties"]["name"] == {"const": "g"}
    assert one["$defs"] == {"place": {"type": "string"}}
    some = tool_use(asked("f", "g", mode=chat.TOOL_CHOICE_MODE_REQUIRED), takes_tools=True)
    schema = some.sampling()["structured_outputs"]["json"]
    assert [each["properties"]["name"]["const"] for each in schema["anyOf"]] == ["f", "g"]


def _strict(value: chat.ChatInput) -> None:
    value.tools[0].strict = True


def _no_json(value: chat.ChatInput) -> None:
    value.tools[0].parameters_schema_json = "{"


def _no_object(value: chat.ChatInput) -> None:
    value.tools[0].parameters_schema_json = "[]"


def _unknown(value: chat.ChatInput) -> None:
    value.tool_choice.function_name = "g"


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        (_strict, "UNSUPPORTED_FEATURE", "tools[0].strict"),
        (_no_json, "INVALID_ARGUMENT", "tools[0].parameters"),
        (_no_object, "INVALID_ARGUMENT", "tools[0].parameters"),
        (_unknown, "INVALID_ARGUMENT", "tool_choice"),
    ],
)
def test_tools_that_are_refused(change, reason: str, field: str) -> None:
    value = asked("f")
    change(value)
    with pytest.raises(MycelError) as caught:
        tool_use(value, takes_tools=True)
    assert (caught.value.reason_name, caught.value.field) == (reason, field)


def test_calls_and_results_in_a_conversation() -> None:
    value = chat.ChatInput(
        messages=[
            chat.Message(
                role=chat.ROLE_ASSISTANT,
                tool_calls=[
                    chat.ToolCall(id="c1", name="f", arguments_json='{"a": 1}'),
                    chat.ToolCall(id="c2", name="g", arguments_json="{broken"),
                ],
            ),
            chat.Message(role=chat.ROLE_TOOL, tool_call_id="c1", content=[chat.ContentPart(text="ok")]),
        ]
    )
    assert template_messages(value, takes_tools=True) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{broken"}},
            ],
        },
        {"role": "tool", "content": "ok", "tool_call_id": "c1"},
    ]
