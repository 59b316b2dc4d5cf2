"""The inference service over real gRPC, in front of a real tritonserver."""

from __future__ import annotations

import asyncio
import json

import grpc
import psutil
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.errors import MycelError
from services.common.status import from_rpc_error
from services.common.tenant import TENANT_HEADER
from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import CHAT_TEMPLATE, CONTROL_TOKENS, END_OF_TURN, TinyModel, build_tiny_gguf
from tests.fakes.triton_process import RunningTriton, free_ports, running_triton
from tests.integration.inference.calls import STATUS, answer, inference, message, request, settings_for


@pytest.fixture
async def service(tmp_path, triton: RunningTriton, triton_models: list[LlamaModel]):
    async with inference(settings_for(tmp_path, triton_models, triton.address)) as running:
        await running.wait_until(STATUS.SERVING)
        yield running


async def test_answer_comes_as_started_deltas_completed(service, tiny: TinyModel) -> None:
    got = await answer(service, request())
    assert got.kinds == ["started", *["delta"] * (len(got.kinds) - 2), "completed"]
    assert len(got.deltas) > 5
    assert got.text == tiny.answer
    assert [delta.finish_reason for delta in got.deltas[:-1]] == [chat.FINISH_REASON_UNSPECIFIED] * (
        len(got.deltas) - 1
    )
    assert got.deltas[-1].finish_reason == chat.FINISH_REASON_STOP
    started = got.events[0].started
    assert (started.provider, started.upstream_model) == ("local", "tiny")
    assert started.upstream_id


async def test_usage_is_exact(service, tiny: TinyModel) -> None:
    got = await answer(service, request("abc"))
    # begin, three of the header around `user`, "\n\n", abc, end of turn; the same header with `assistant`
    assert got.usage.prompt_tokens == 1 + (1 + 4 + 1 + 1) + 3 + 1 + (1 + 9 + 1 + 1)
    tokens = sum(1 if piece.isascii() else len(piece.encode()) for piece in tiny.script) + 1
    assert got.usage.completion_tokens == tokens


async def test_max_tokens_and_stop_texts(service) -> None:
    short = await answer(service, request(max_tokens=2))
    assert short.text == "Hyphae carry"
    assert short.deltas[-1].finish_reason == chat.FINISH_REASON_LENGTH
    assert short.usage.completion_tokens == 2
    stopped = await answer(service, request(stop=["gar an"]))
    assert stopped.text == "Hyphae carry water, su"
    assert stopped.deltas[-1].finish_reason == chat.FINISH_REASON_STOP


async def test_absent_max_tokens_means_as_far_as_the_context_goes(tmp_path, endless: TinyModel) -> None:
    models = [LlamaModel("endless", endless.path, 256, slots=1)]
    with running_triton(tmp_path, models) as triton:
        async with inference(settings_for(tmp_path, models, triton.address)) as service:
            await service.wait_until(STATUS.SERVING)
            got = await answer(service, request(model="endless-local"))
    assert got.deltas[-1].finish_reason == chat.FINISH_REASON_LENGTH
    assert 200 < got.usage.prompt_tokens + got.usage.completion_tokens <= 256


async def test_every_role_of_text_reaches_the_template(service, tiny: TinyModel) -> None:
    wanted = request()
    del wanted.input.messages[:]
    wanted.input.messages.extend(
        [
            message(chat.ROLE_SYSTEM, "Be brief."),
            message(chat.ROLE_DEVELOPER, "Be kind."),
            message(chat.ROLE_USER, "Hello"),
            message(chat.ROLE_ASSISTANT, "Hi"),
            message(chat.ROLE_USER, "What do hyphae do?"),
        ]
    )
    assert (await answer(service, wanted)).text == tiny.answer


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


async def test_stop_text_within_a_character_and_over_pieces(service) -> None:
    got = await answer(service, request(stop=["🍄"]))
    assert got.text == "Hyphae carry water, sugar and news: "
    assert got.deltas[-1].finish_reason == chat.FINISH_REASON_STOP
    held = await answer(service, request(stop=["🍄 é?", "news: 🍄 é!?"]))
    assert held.text.endswith("news: 🍄 é!"), "what only began like a stop text is part of the answer"


async def test_a_seed_repeats_an_answer(service) -> None:
    wild = {"temperature": 2, "seed": 7, "max_tokens": 12, "logit_bias": {0: -100}}
    first, second = [await answer(service, request(model="endless-local", **wild)) for _ in range(2)]
    assert first.text == second.text


async def test_what_the_engine_had_read_before_is_counted(service) -> None:
    question = request("the same question, asked again and again")
    first = await answer(service, question)
    usages = [(await answer(service, question)).usage for _ in range(8)]  # one of the slots has read it
    assert {usage.prompt_tokens for usage in usages} == {first.usage.prompt_tokens}
    assert max(usage.cached_prompt_tokens for usage in usages) == first.usage.prompt_tokens - 1


async def test_goes_on_exactly_after_an_answer_that_broke_off(service, tiny: TinyModel) -> None:
    wanted = request()
    wanted.continue_after = "Hyphae carry water"
    got = await answer(service, wanted)
    assert got.events[0].started.continues_exactly
    assert wanted.continue_after + got.text == tiny.answer


async def test_log_probabilities(service) -> None:
    got = await answer(service, request(logprobs=True, top_logprobs=2, max_tokens=3))
    records = [record for delta in got.deltas for record in delta.logprobs]
    assert [record.token for record in records] == ["Hyphae", " carry", " water"]
    assert all(record.logprob <= 0 and len(record.top) == 2 for record in records)
    assert [record.top[0].token_bytes for record in records] == [b"Hyphae", b" carry", b" water"]


async def test_json_schema_holds(service) -> None:
    wanted = request()
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    wanted.input.response_format.json_schema.name = "verdict"
    wanted.input.response_format.json_schema.schema_json = json.dumps(schema)
    assert isinstance(json.loads((await answer(service, wanted)).text)["ok"], bool)


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


async def test_unknown_model_names_the_known_ones(service) -> None:
    for name in ("nope", "hosted", "tiny"):
        with pytest.raises(MycelError) as caught:
            await answer(service, request(model=name))
        assert caught.value.reason_name == "MODEL_NOT_FOUND"
        assert caught.value.metadata["known"] == "endless-local, tiny-local"


async def test_models_are_listed(service) -> None:
    models = await service.models()
    assert sorted(models) == ["endless-local", "tiny-local"]
    tiny = models["tiny-local"]
    assert (tiny.provider, tiny.provider_kind, tiny.available) == ("local", "triton", True)
    assert (tiny.context_length, tiny.description) == (512, "the tiny one")


async def test_cancelled_caller_stops_the_generation(service, triton: RunningTriton) -> None:
    before = len(triton.cancelled_after("endless"))
    call = service.stream(request(model="endless-local", max_tokens=30_000))
    await call.read()
    await call.read()
    call.cancel()
    assert await _cancelled(triton, before + 1) < 30_000


@pytest.mark.parametrize("seconds", [0.001, 0.2])
async def test_deadline_stops_the_generation(service, tiny: TinyModel, seconds: float) -> None:
    with pytest.raises(MycelError) as caught:
        await answer(service, request(model="endless-local", max_tokens=30_000), timeout=seconds)
    assert caught.value.reason_name == "DEADLINE_EXCEEDED"
    assert (await answer(service, request())).text == tiny.answer


async def test_call_beyond_the_queue_is_refused_at_once(service) -> None:
    running = [service.stream(request(model="endless-local", max_tokens=30_000)) for _ in range(2)]
    for call in running:
        await call.read()
    more = [asyncio.create_task(answer(service, request(model="endless-local", max_tokens=1))) for _ in range(2)]
    # There is one place to wait in; whichever of the two comes second finds it taken, one tenant's as they are.
    done, waiting = await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(MycelError) as caught:
        await done.pop()
    assert caught.value.reason_name == "OVERLOADED"
    assert caught.value.retry_after > 0
    for call in running:
        call.cancel()
    assert (await waiting.pop()).usage.completion_tokens == 1


async def test_a_quiet_tenant_is_served_before_a_loud_ones_queue(tmp_path, endless: TinyModel) -> None:
    models = [LlamaModel("endless", endless.path, 4096, slots=1, queue=7)]
    served: list[str] = []

    async def ask(service, tenant: str) -> None:
        await answer(service, request(model="endless-local", max_tokens=5), metadata=((TENANT_HEADER, tenant),))
        served.append(tenant)

    with running_triton(tmp_path, models) as triton:
        async with inference(settings_for(tmp_path, models, triton.address)) as service:
            await service.wait_until(STATUS.SERVING)
            running = service.stream(request(model="endless-local"), metadata=((TENANT_HEADER, "loud"),))
            await running.read()
            waiting = {asyncio.create_task(ask(service, tenant)) for tenant in [*["loud"] * 8, "quiet"]}
            refused: set[asyncio.Task[None]] = set()
            while len(refused) < 2:  # nine calls, seven places: then all of them have come
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            running.cancel()
            await asyncio.gather(*waiting)
    for task in refused:
        with pytest.raises(MycelError, match="1 calls are in progress and 7 wait") as caught:
            task.result()
        assert caught.value.metadata["scope"] == "tenant"
    assert sorted(served) == [*["loud"] * 6, "quiet"]
    assert "quiet" in served[:2]


async def test_cancelled_while_waiting_leaves_its_place(service) -> None:
    running = [service.stream(request(model="endless-local", max_tokens=30_000)) for _ in range(2)]
    for call in running:
        await call.read()
    for _ in range(3):
        waiting = service.stream(request(model="endless-local", max_tokens=1), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    for call in running:
        call.cancel()
    assert (await answer(service, request(model="endless-local", max_tokens=1))).usage.completion_tokens == 1


async def test_not_serving_until_triton_is_there_and_again_when_it_goes(
    tmp_path, triton_models: list[LlamaModel], tiny: TinyModel
) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    async with inference(settings_for(tmp_path, triton_models[:1], nobody)) as service:
        await service.wait_until(STATUS.NOT_SERVING)
        with pytest.raises(MycelError) as caught:
            await answer(service, request())
        assert caught.value.reason_name == "BACKEND_UNAVAILABLE"
        assert not (await service.models())["tiny-local"].available
    with running_triton(tmp_path, triton_models[:1]) as triton:
        async with inference(settings_for(tmp_path, triton_models[:1], triton.address)) as service:
            await service.wait_until(STATUS.SERVING)
            assert (await answer(service, request())).text == tiny.answer
            await asyncio.to_thread(triton.stop)
            await service.wait_until(STATUS.NOT_SERVING)
            with pytest.raises(MycelError) as caught:
                await answer(service, request())
            assert caught.value.reason_name == "BACKEND_UNAVAILABLE"


async def test_killed_triton_ends_a_stream_with_a_retryable_error(tmp_path, triton_models: list[LlamaModel]) -> None:
    with running_triton(tmp_path, triton_models[1:]) as triton:
        async with inference(settings_for(tmp_path, triton_models[1:], triton.address)) as service:
            await service.wait_until(STATUS.SERVING)
            call = service.stream(request(model="endless-local", max_tokens=30_000))
            await call.read()
            stubs = psutil.Process(triton.process.pid).children(recursive=True)
            assert stubs
            triton.process.kill()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            _, alive = await asyncio.to_thread(psutil.wait_procs, stubs, timeout=60)
            assert not alive, "a stub goes on without its server"


async def test_model_without_a_usable_file_says_why(tmp_path, tiny: TinyModel) -> None:
    speechless = build_tiny_gguf(tmp_path / "speechless.gguf", chat_template=None)
    wrong = build_tiny_gguf(tmp_path / "wrong.gguf", chat_template=CHAT_TEMPLATE + "{% if %}")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny.path.read_bytes()[:2000])
    models = [
        LlamaModel("tiny", tiny.path, 512),
        LlamaModel("speechless", speechless.path, 512),
        LlamaModel("wrong", wrong.path, 512),
        LlamaModel("broken", broken, 512),
    ]
    with running_triton(tmp_path, models) as triton:
        async with inference(settings_for(tmp_path, models, triton.address)) as service:
            await service.wait_until(STATUS.SERVING)
            found = await service.models()
            assert (await answer(service, request())).text == tiny.answer
            with pytest.raises(MycelError) as caught:
                await answer(service, request(model="speechless-local"))
    assert caught.value.reason_name == "BACKEND_UNAVAILABLE"
    assert found["tiny-local"].available
    assert found["speechless-local"].unavailable_reason == "its file has no chat template"
    assert "chat template is not valid" in found["wrong-local"].unavailable_reason
    assert found["broken-local"].unavailable_reason == "its file is not a whole GGUF"


async def _cancelled(triton: RunningTriton, times: int) -> int:
    async with asyncio.timeout(10):
        while len(tokens := triton.cancelled_after("endless")) < times:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.01)
    return tokens[-1]
