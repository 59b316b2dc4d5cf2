"""The llama.cpp backend in a real tritonserver, asked through Triton's own client."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import grpc
import pytest
import tritonclient.grpc.aio as triton_grpc
from tritonclient.utils import InferenceServerException

from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import TinyModel
from tests.fakes.triton_process import RunningTriton, running_triton
from tests.integration.inference.triton_requests import PROMPT, Piece, ask, triton_client


@pytest.fixture
async def client(triton: RunningTriton) -> AsyncIterator[triton_grpc.InferenceServerClient]:
    async with triton_client(triton.address) as client:
        yield client


async def collect(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


async def cancelled(triton: RunningTriton, model: str, times: int) -> int:
    """Waits until this many answers of the model were cancelled and gives the last one's tokens."""
    async with asyncio.timeout(10):
        while len(tokens := triton.cancelled_after(model)) < times:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.01)
    return tokens[-1]


async def test_streams_the_answer_in_pieces_with_exact_counts(client, tiny: TinyModel) -> None:
    pieces = await collect(ask(client, "tiny"))
    assert len(pieces) > 5
    assert b"".join(piece.text for piece in pieces).decode() == tiny.answer
    assert [piece.finish_reason for piece in pieces[:-1]] == ["None"] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == "stop"
    # an ASCII piece is one token, any other is spread over its bytes; the end of the turn is one more
    tokens = sum(1 if piece.isascii() else len(piece.encode()) for piece in tiny.script) + 1
    assert sum(piece.new_tokens for piece in pieces) == tokens


async def test_no_piece_splits_a_character(client, tiny: TinyModel) -> None:
    pieces = await collect(ask(client, "tiny"))
    assert any("🍄".encode() in piece.text for piece in pieces)
    for piece in pieces:
        assert "\ufffd" not in piece.text.decode("utf-8")


async def test_unstreamed_answer_comes_in_one_piece(client, tiny: TinyModel) -> None:
    pieces = await collect(ask(client, "tiny", stream=False))
    assert len(pieces) == 1
    assert pieces[0].text.decode() == PROMPT + tiny.answer  # vLLM's default: the prompt is repeated
    assert pieces[0].finish_reason == "stop"


async def test_stop_text_across_tokens_ends_the_answer_and_is_not_part_of_it(client) -> None:
    pieces = await collect(ask(client, "tiny", stop=["ter, su"]))
    assert b"".join(piece.text for piece in pieces) == b"Hyphae carry wa"
    assert pieces[-1].finish_reason == "stop"


async def test_max_tokens_ends_the_answer_with_length(client) -> None:
    pieces = await collect(ask(client, "tiny", max_tokens=3))
    assert b"".join(piece.text for piece in pieces) == b"Hyphae carry water"
    assert pieces[-1].finish_reason == "length"
    assert sum(piece.new_tokens for piece in pieces) == 3


async def test_default_of_max_tokens_is_vllms(client) -> None:
    pieces = await collect(ask(client, "endless", sampling=""))
    assert sum(piece.new_tokens for piece in pieces) == 16


async def test_full_context_ends_the_answer_with_length(client) -> None:
    # "x" is one token, and the prompt leaves some room of the 512 for the answer
    pieces = await collect(ask(client, "tiny", "x" * 480 + PROMPT[-2:], ignore_eos=True, max_tokens=500))
    assert pieces[-1].finish_reason == "length"
    assert pieces[0].prompt_tokens + sum(piece.new_tokens for piece in pieces) <= 512


async def test_json_schema_holds(client) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    pieces = await collect(ask(client, "tiny", structured_outputs={"json": schema}))
    assert isinstance(json.loads(b"".join(piece.text for piece in pieces))["ok"], bool)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": -1}, "'temperature'"),
        ({"temperature": float("nan")}, "'temperature': must be finite"),
        ({"temperature": "hot"}, "'temperature': must be a number"),
        ({"max_tokens": 0}, "'max_tokens'"),
        ({"max_tokens": 1.5}, "'max_tokens'"),
        ({"top_p": 0}, "'top_p'"),
        ({"stop": [""]}, "'stop'"),
        ({"no_such": 1}, "'no_such'"),
        ({"structured_outputs": {"json": {"type": "nope"}}}, "schema cannot be compiled"),
        ({"structured_outputs": {"grammar": "root ::= ((("}}, "grammar"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
    ],
)
async def test_bad_sampling_parameter_is_refused_by_name(client, parameters, message) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await collect(ask(client, "tiny", **parameters))
    assert re.search(f"^INVALID_ARG: .*{message}", caught.value.message())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": None}, "'text_input' is missing"),
        ({"prompt": b"\xff\xfe"}, "'text_input' is not valid UTF-8"),
        ({"sampling": "{not json"}, "not JSON"),
        ({"sampling": "[]"}, "must be a JSON object"),
        ({"parts": "[0, "}, "'prompt_parts' is not JSON"),
        ({"parts": '["a", "b"]'}, "'prompt_parts' must be a list"),
        ({"parts": "[0, true]"}, "'prompt_parts' must be a list"),
        ({"parts": "[0, 1000000]"}, "invalid tokens"),
        ({"prompt": "x" * 600}, r"601 tokens.*512 tokens"),
    ],
)
async def test_bad_input_is_refused(client, arguments, message, tiny: TinyModel) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await collect(ask(client, "tiny", **arguments))
    assert re.search(f"^INVALID_ARG: .*{message}", caught.value.message())
    answer = await collect(ask(client, "tiny"))
    assert b"".join(piece.text for piece in answer).decode() == tiny.answer


async def test_cancelled_call_stops_the_generation(client, triton: RunningTriton) -> None:
    before = len(triton.cancelled_after("endless"))
    answer = ask(client, "endless", max_tokens=30_000)
    assert (await anext(answer)).text
    await answer.aclose()
    assert 0 < await cancelled(triton, "endless", before + 1) < 30_000


async def test_deadline_stops_the_generation(client, triton: RunningTriton) -> None:
    before = len(triton.cancelled_after("endless"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(ask(client, "endless", max_tokens=30_000, deadline=0.3))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await cancelled(triton, "endless", before + 1) < 30_000


async def test_full_queue_is_refused_as_unavailable(client, triton: RunningTriton) -> None:
    running = [ask(client, "endless", max_tokens=30_000) for _ in range(2)]
    await asyncio.gather(*(anext(answer) for answer in running))
    waiting = asyncio.create_task(collect(ask(client, "endless", max_tokens=1)))
    with pytest.raises(InferenceServerException) as caught:
        # whichever of the two comes second finds the one place in the queue taken
        await asyncio.gather(waiting, collect(ask(client, "endless", max_tokens=1)))
    for answer in running:
        await answer.aclose()
    assert caught.value.message() == "UNAVAILABLE: the model's queue is full"


async def test_many_callers_share_the_slots(client, tiny: TinyModel) -> None:
    answers = await asyncio.gather(*(collect(ask(client, "tiny")) for _ in range(24)))
    assert {b"".join(piece.text for piece in answer).decode() for answer in answers} == {tiny.answer}


async def test_stop_leaves_nothing_behind(tmp_path, triton_models: list[LlamaModel]) -> None:
    with running_triton(tmp_path, triton_models[:1]) as triton:
        async with triton_client(triton.address) as client:
            assert await collect(ask(client, "tiny"))
        assert triton.leftovers()
        assert await asyncio.to_thread(triton.stop) == 0
        assert triton.leftovers() == []


async def test_answer_in_progress_is_finished_when_the_server_stops(tmp_path, triton_models: list[LlamaModel]) -> None:
    with running_triton(tmp_path, triton_models[1:]) as triton:
        async with triton_client(triton.address) as client:
            answer = ask(client, "endless", max_tokens=2_000)
            first = await anext(answer)
            triton.process.terminate()
            rest = await collect(answer)
        assert rest[-1].finish_reason == "length"
        assert first.new_tokens + sum(piece.new_tokens for piece in rest) == 2_000
        assert await asyncio.to_thread(triton.process.wait, 20) == 0


async def test_one_bad_model_does_not_keep_the_others_away(tmp_path, tiny: TinyModel) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny.path.read_bytes()[:1000])
    models = [LlamaModel("tiny", tiny.path, 512), LlamaModel("broken", broken, 512)]
    with running_triton(tmp_path, models) as triton:
        async with triton_client(triton.address) as client:
            assert await collect(ask(client, "tiny"))
            index = (await client.get_model_repository_index(as_json=True))["models"]
            states = {model["name"]: model.get("state") for model in index}
            assert states == {"tiny": "READY", "broken": "UNAVAILABLE"}
