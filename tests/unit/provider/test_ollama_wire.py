"""The contract's input in the form of Ollama's API, and back."""

from __future__ import annotations

from typing import Any

import pytest
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.provider.capabilities import Capabilities, Model
from services.provider.kinds.ollama.wire import Answer, Line, request


def _input() -> chat.ChatInput:
    value = chat.ChatInput()
    value.messages.add(role=chat.ROLE_DEVELOPER).content.add(text="be brief")
    value.messages.add(role=chat.ROLE_USER).content.add(text="hi")
    return value


def _body(value: chat.ChatInput, context: int | None = None) -> dict[str, Any]:
    return request(Model("m", "llama3.2", Capabilities(), context), value)


def test_parameters_are_options() -> None:
    value = _input()
    value.parameters.CopyFrom(
        chat.GenerationParameters(
            max_tokens=9, temperature=0, top_p=0.5, seed=3, stop=["x"], presence_penalty=1, frequency_penalty=-1
        )
    )
    assert _body(value, 2048)["options"] == {
        "num_predict": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["x"],
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "num_ctx": 2048,
    }


def test_a_conversation_is_never_cut_down() -> None:
    body = _body(_input())
    assert (body["truncate"], body["shift"], body["stream"]) == (False, False, True)
    assert body["messages"][0] == {"role": "system", "content": "be brief"}


def test_forms_logprobs_and_effort() -> None:
    value = _input()
    value.response_format.json_object = True
    value.parameters.logprobs = True
    value.parameters.top_logprobs = 2
    value.parameters.reasoning_effort = "none"
    body = _body(value)
    assert (body["format"], body["logprobs"], body["top_logprobs"], body["think"]) == ("json", True, 2, False)
    value.parameters.reasoning_effort = "high"
    assert _body(value)["think"] == "high"


def test_results_name_their_tool() -> None:
    value = _input()
    value.messages.add(role=chat.ROLE_ASSISTANT).tool_calls.add(id="c", name="f", arguments_json='{"x": 1}')
    value.messages.add(role=chat.ROLE_TOOL, tool_call_id="c").content.add(text="42")
    messages = _body(value)["messages"]
    assert messages[2]["tool_calls"] == [{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}]
    assert messages[3] == {"role": "tool", "content": "42", "tool_call_id": "c", "tool_name": "f"}
    value.messages[2].tool_calls[0].arguments_json = "[1]"
    with pytest.raises(MycelError) as caught:
        _body(value)
    assert caught.value.field == "messages[2].tool_calls[0].arguments_json"


def test_a_choice_of_no_tool_names_none() -> None:
    value = _input()
    value.tools.add(name="f", parameters_schema_json='{"properties": {}}')
    assert _body(value)["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    value.tool_choice.mode = chat.TOOL_CHOICE_MODE_NONE
    assert "tools" not in _body(value)


def test_calls_without_ids_get_one_each() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    answer = Answer()
    pieces = [delta for _ in range(2) for delta in answer.read(Line(message={"tool_calls": [call]}))]
    calls = [piece.tool_calls[0] for piece in pieces]
    assert [call.index for call in calls] == [0, 1]
    assert len({call.id for call in calls}) == 2
    assert all(call.arguments_json == "{}" for call in calls)
    end = next(answer.read(Line(done=True, done_reason="stop")))
    assert end.finish_reason == chat.FINISH_REASON_TOOL_CALLS


def test_log_probabilities() -> None:
    top = {"token": "b", "logprob": -2.0}
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [top]}
    record = next(Answer().read(Line(message={"content": "a"}, logprobs=[token]))).logprobs[0]
    assert (record.token, record.logprob, record.token_bytes) == ("a", -0.5, b"a")
    assert (record.top[0].token, record.top[0].logprob) == ("b", -2.0)


def test_thinking_is_not_said() -> None:
    assert not list(Answer().read(Line(message={"content": "", "thinking": "hm"})))
