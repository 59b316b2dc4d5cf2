"""The inference service over real gRPC, in front of a real tritonserver."""

from __future__ import annotations

import asyncio
import json

import grpc
import psutil
import pytest
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import CHAT_TEMPLATE, TinyModel, build_tiny_gguf
from tests.fakes.triton_process import RunningTriton, free_ports, running_triton
from tests.integration.inference.calls import STATUS, answer, inference, message, request, settings_for


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
