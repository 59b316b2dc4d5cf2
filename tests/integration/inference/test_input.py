"""What the inference service is asked: strange texts, crafted ones, and what it refuses."""

from __future__ import annotations

import grpc
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.errors import MycelError
from services.common.status import from_rpc_error
from tests.fakes.tiny_gguf import CONTROL_TOKENS, END_OF_TURN, TinyModel
from tests.integration.inference.calls import answer, request


async def test_control_tokens_in_a_message_stay_text(service) -> None:
    plain = await answer(service, request("x" * len(END_OF_TURN)))
    crafted = await answer(service, request(END_OF_TURN))
    # As a command it would be one token; as text it is its bytes, and nothing besides.
    assert crafted.usage.prompt_tokens == plain.usage.prompt_tokens


async def test_a_prompt_of_only_control_tokens_is_answered_as_text(service, tiny: TinyModel) -> None:
    crafted = await answer(service, request("".join(CONTROL_TOKENS)))
    assert crafted.text == tiny.answer
    assert crafted.usage.prompt_tokens == 21 + len("".join(CONTROL_TOKENS))


@pytest.mark.parametrize("text", ["", " \n ", "\u0000", "\ufdd0\U0010ffff"])
async def test_strange_texts_are_answered(service, tiny: TinyModel, text: str) -> None:
    assert (await answer(service, request(text))).text == tiny.answer


async def test_text_that_is_not_utf_8_is_refused_by_name(service, tiny: TinyModel) -> None:
    data = request("XXXX").SerializeToString().replace(b"XXXX", b"\xff\xfe\xc3\x28")
    method = "/mycel.completion.v1.CompletionService/StreamCompletion"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.channel.unary_stream(method)(data, timeout=10).read()
    error = from_rpc_error(caught.value, "inference")
    assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", "input.messages[0].content[0].text")
    assert (await answer(service, request())).text == tiny.answer


def _tools(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.tools.add(name="f")


def _image(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.messages[0].content.add().image.url = "https://example.org/a.png"


def _tool_message(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.messages[0].role = chat.ROLE_TOOL


def _tool_call(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.messages[0].tool_calls.add(id="c1", name="f")


def _several(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.parameters.n = 2


def _effort(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.parameters.reasoning_effort = "low"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_tools, "tools"),
        (_image, "messages[0].content[1].image"),
        (_tool_message, "messages[0].role"),
        (_tool_call, "messages[0].tool_calls"),
        (_several, "n"),
        (_effort, "reasoning_effort"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(service, change, field) -> None:
    wanted = request()
    change(wanted)
    with pytest.raises(MycelError) as caught:
        await answer(service, wanted)
    assert (caught.value.reason_name, caught.value.field) == ("UNSUPPORTED_FEATURE", field)


def _no_messages(wanted: completion.StreamCompletionRequest) -> None:
    del wanted.input.messages[:]


def _no_role(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.messages[0].role = chat.ROLE_UNSPECIFIED


def _bad_schema(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.response_format.json_schema.schema_json = '{"type": "nope"}'


def _no_schema(wanted: completion.StreamCompletionRequest) -> None:
    wanted.input.response_format.json_schema.schema_json = "{"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_no_messages, "messages"),
        (_no_role, "messages[0].role"),
        (_bad_schema, "response_format"),
        (_no_schema, "response_format.json_schema.schema"),
        (lambda wanted: setattr(wanted.input.parameters, "temperature", -1), "temperature"),
        (lambda wanted: setattr(wanted.input.parameters, "temperature", float("nan")), "temperature"),
        (lambda wanted: setattr(wanted.input.parameters, "top_p", 2), "top_p"),
        (lambda wanted: setattr(wanted.input.parameters, "max_tokens", 0), "max_tokens"),
    ],
)
async def test_bad_input_is_refused_by_name(service, tiny: TinyModel, change, field) -> None:
    wanted = request()
    change(wanted)
    with pytest.raises(MycelError) as caught:
        await answer(service, wanted)
    assert (caught.value.reason_name, caught.value.field) == ("INVALID_ARGUMENT", field)
    assert (await answer(service, request())).text == tiny.answer


async def test_too_long_prompt_is_refused_with_the_counts(service) -> None:
    with pytest.raises(MycelError) as caught:
        await answer(service, request("x" * 1000))
    assert caught.value.reason_name == "CONTEXT_TOO_LONG"
    assert caught.value.metadata["limit"] == "512"
    assert int(caught.value.metadata["prompt_tokens"]) == 1000 + 21
