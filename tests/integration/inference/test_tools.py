"""Calls of tools by models in a real tritonserver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.errors import MycelError
from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import CALL_TAG, build_tiny_gguf
from tests.fakes.triton_process import running_triton
from tests.integration.inference.calls import STATUS, answer, inference, message, request, settings_for

TEMPLATE = Path(__file__).resolve().parents[2] / "golden" / "chat_templates" / "llama-3.1.jinja"
SCHEMA = {
    "type": "object",
    "properties": {"now": {"type": "boolean"}},
    "required": ["now"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory):
    """A Triton with a model that calls a tool, whatever it is asked, and one that tags its call."""
    folder = tmp_path_factory.mktemp("tools")
    script = ('{"name": "', "weather", '", "parameters": ', '{"now": ', "true", "}}")
    models = []
    for name, pieces in {"caller": script, "tagger": (CALL_TAG, *script)}.items():
        built = build_tiny_gguf(folder / f"{name}.gguf", script=pieces, chat_template=TEMPLATE.read_text())
        models.append(LlamaModel(name, built.path, 1024, slots=1))
    with running_triton(folder, models) as triton:
        yield models, triton


@pytest.fixture
async def service(tmp_path, caller):
    models, triton = caller
    async with inference(settings_for(tmp_path, models, triton.address)) as running:
        await running.wait_until(STATUS.SERVING)
        yield running


def with_tool(model: str = "caller-local", **parameters) -> completion.StreamCompletionRequest:
    wanted = request("Is it raining?", model=model, **parameters)
    wanted.input.tools.add(name="weather", description="Tells.", parameters_schema_json=json.dumps(SCHEMA))
    return wanted


@pytest.mark.parametrize("model", ["caller-local", "tagger-local"])
async def test_call_of_a_tool(service, model: str) -> None:
    got = await answer(service, with_tool(model))
    assert got.text == ""
    (call,) = [call for delta in got.deltas for call in delta.tool_calls]
    assert (call.index, call.name, json.loads(call.arguments_json)) == (0, "weather", {"now": True})
    assert call.id.startswith("call_")
    assert got.deltas[-1].finish_reason == chat.FINISH_REASON_TOOL_CALLS


async def test_without_tools_it_is_text(service) -> None:
    wanted = with_tool()
    wanted.input.tool_choice.mode = chat.TOOL_CHOICE_MODE_NONE
    got = await answer(service, wanted)
    assert got.text == '{"name": "weather", "parameters": {"now": true}}'
    assert got.deltas[-1].finish_reason == chat.FINISH_REASON_STOP


async def test_call_that_breaks_off_is_text(service) -> None:
    got = await answer(service, with_tool(max_tokens=3))
    assert got.text == '{"name": "weather", "parameters": '
    assert got.deltas[-1].finish_reason == chat.FINISH_REASON_LENGTH


async def test_required_call_of_another_tool(service) -> None:
    wanted = with_tool()
    wanted.input.tools.add(name="other", parameters_schema_json=json.dumps(SCHEMA), strict=True)
    wanted.input.tool_choice.function_name = "other"
    got = await answer(service, wanted)
    (call,) = [call for delta in got.deltas for call in delta.tool_calls]
    assert call.name == "other"
    assert isinstance(json.loads(call.arguments_json)["now"], bool)


async def test_required_call_of_any_tool(service) -> None:
    wanted = with_tool()
    wanted.input.tool_choice.mode = chat.TOOL_CHOICE_MODE_REQUIRED
    got = await answer(service, wanted)
    assert [call.name for delta in got.deltas for call in delta.tool_calls] == ["weather"]


async def test_schema_of_a_tool_that_cannot_be_compiled(service) -> None:
    wanted = with_tool()
    wanted.input.tools[0].parameters_schema_json = '{"type": "nope"}'
    wanted.input.tool_choice.mode = chat.TOOL_CHOICE_MODE_REQUIRED
    with pytest.raises(MycelError) as caught:
        await answer(service, wanted)
    assert caught.value.reason_name == "INVALID_ARGUMENT"
    assert caught.value.field == "tools"


async def test_tools_change_the_prompt_and_results_go_back(service) -> None:
    bare, offered = await answer(service, request("Is it raining?", model="caller-local")), with_tool()
    first = await answer(service, offered)
    assert first.usage.prompt_tokens > bare.usage.prompt_tokens + 100
    calls = [chat.ToolCall(id="c1", name="weather", arguments_json='{"now": true}')]
    offered.input.messages.append(chat.Message(role=chat.ROLE_ASSISTANT, tool_calls=calls))
    offered.input.messages.append(message(chat.ROLE_TOOL, "no"))
    assert (await answer(service, offered)).usage.prompt_tokens > first.usage.prompt_tokens


async def test_models_tell_what_they_can_do(service) -> None:
    found = (await service.models())["caller-local"].capabilities
    assert found.tools
    assert found.tool_choice
    assert not found.strict_tools
