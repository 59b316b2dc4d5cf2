"""Failover in the router: breakers, waits, hedges, and answers that another model carries on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason
from mycel.status.v1 import status_service_pb2 as status

from services.common.errors import MycelError
from services.common.status import from_rpc_error
from tests.fakes.completion import Step, answer, finish, started, text
from tests.integration.router.test_router import _DOWN, _KEY, Mesh, _chat, _input, _refusal, _text, mesh

_HEDGE = "hedge: {unlearned: 50ms, share: 1}, retry: {rounds: 0}"


async def _stream(
    running: Mesh, value: chat.ChatInput | None = None, model: str = "auto"
) -> list[chat_service.StreamChatResponse]:
    request = chat_service.StreamChatRequest(model=model, input=value or _input())
    return [event async for event in running.chat.StreamChat(request, metadata=_KEY, timeout=20)]


def _told(events: Sequence[chat_service.StreamChatResponse]) -> str:
    return "".join(event.delta.text for event in events)


def _exactly(provider: str) -> completion.StreamCompletionResponse:
    event = started(provider)
    event.started.continues_exactly = True
    return event


async def test_an_open_breaker_keeps_calls_away(tmp_path: Path) -> None:
    scripts = {"first": [_DOWN], "second": answer("u", "ok")}
    async with mesh(tmp_path, scripts, reliability="breaker: {failures: 3, open: 60s}") as running:
        for _ in range(10):
            response, _ = await _chat(running, x_mycel_cache="off")
            assert _text(response.choices) == "ok"
        assert running.backend.asked.count("first") == 3


async def test_the_operator_sees_what_the_router_sees(tmp_path: Path) -> None:
    scripts = {"first": [_DOWN], "second": answer("u", "ok")}
    async with mesh(tmp_path, scripts, reliability="breaker: {failures: 1, open: 60s}") as running:
        for _ in range(20):
            await _chat(running, x_mycel_cache="off")
        listed = await running.status.ListProviderHealth(status.ListProviderHealthRequest(), timeout=10)
        first, second = listed.providers
        assert (first.provider, first.breaker, first.last_error) == (
            "t",
            status.BREAKER_STATE_OPEN,
            "BACKEND_UNAVAILABLE",
        )
        assert dict(first.failures) == {"BACKEND_UNAVAILABLE": 1}
        assert first.until_probe.ToTimedelta().total_seconds() > 0
        assert (second.provider, second.breaker, second.last_error) == ("u", status.BREAKER_STATE_CLOSED, "")
        assert second.HasField("first_token_p50")
        assert not first.HasField("first_token_p50")


async def test_a_probe_finds_that_a_provider_is_back(tmp_path: Path) -> None:
    scripts = {"first": [_DOWN]}
    config = "breaker: {failures: 1, open: 1ms, max_open: 1ms}, retry: {rounds: 0}"
    async with mesh(tmp_path, scripts, reliability=config) as running:
        assert (await _refusal(_chat(running, "first"))).reason_name == "BACKEND_UNAVAILABLE"
        running.backend.play("first", answer("t", "back"))
        response, _ = await _chat(running, "first")
        assert _text(response.choices) == "back"


async def test_a_bad_request_opens_no_breaker(tmp_path: Path) -> None:
    refused = MycelError(ErrorReason.ERROR_REASON_INVALID_ARGUMENT, "bad")
    async with mesh(tmp_path, {"first": [refused]}, reliability="breaker: {failures: 1}") as running:
        for _ in range(3):
            assert (await _refusal(_chat(running, "first"))).reason_name == "INVALID_ARGUMENT"
        assert len(running.backend.asked) == 3


@pytest.mark.parametrize(("metadata", "asked"), [({"scope": "tenant"}, 3), ({}, 1)])
async def test_a_tenant_that_had_its_share_shuts_nobody_out(tmp_path: Path, metadata: dict, asked: int) -> None:
    reason = ErrorReason.ERROR_REASON_OVERLOADED
    full = MycelError(reason, "full", metadata=metadata, retry_after=60)
    config = "breaker: {failures: 1, open: 60s}, retry: {rounds: 0}"
    async with mesh(tmp_path, {"first": [full], "second": answer("u", "ok")}, reliability=config) as running:
        for _ in range(3):
            response, _ = await _chat(running, x_mycel_cache="off")
            assert _text(response.choices) == "ok"
        assert running.backend.asked.count("first") == asked
        assert set(running.backend.tenants) == {"dev"}


async def test_a_passing_failure_is_asked_again(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": [_DOWN]}, reliability="retry: {rounds: 1, base: 1ms}") as running:
        running.backend.play("first", [_DOWN], answer("t", "second time"))
        response, headers = await _chat(running, "first")
        assert (_text(response.choices), headers["x-mycel-attempts"]) == ("second time", "2")


async def test_a_long_retry_after_is_told_to_the_caller(tmp_path: Path) -> None:
    limited = MycelError(ErrorReason.ERROR_REASON_RATE_LIMITED, "slow", retry_after=300.0)
    async with mesh(tmp_path, {"first": [limited]}, reliability="") as running:
        error = await _refusal(_chat(running, "first"))
        assert (error.reason_name, error.retry_after) == ("RATE_LIMITED", 300.0)
        again = await _refusal(_chat(running, "first"))
        assert again.reason_name == "NO_CANDIDATE"
        assert again.retry_after == pytest.approx(300, abs=20)
        assert len(running.backend.asked) == 1


async def test_only_a_longer_context_is_asked_after_a_prompt_was_too_long(tmp_path: Path) -> None:
    too_long = MycelError(ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG, "too long")
    scripts = {"first": [too_long], "short": answer("u", "no"), "second": answer("u", "fits")}
    async with mesh(tmp_path, scripts) as running:
        response, _ = await _chat(running, "tight")
        assert _text(response.choices) == "fits"
        assert running.backend.asked == ["first", "second"]


async def test_a_model_that_is_slow_to_begin_is_hedged(tmp_path: Path) -> None:
    scripts = {"first": [asyncio.Event()], "second": answer("u", "quick")}
    async with mesh(tmp_path, scripts, reliability=_HEDGE) as running:
        response, headers = await _chat(running)
        assert (_text(response.choices), headers["x-mycel-model"]) == ("quick", "second")
        await asyncio.wait_for(running.backend.cancelled.wait(), 10)


async def test_a_slow_model_may_still_win(tmp_path: Path) -> None:
    release = asyncio.Event()
    scripts = {"first": [release, *answer("t", "first")], "second": [asyncio.Event()]}
    async with mesh(tmp_path, scripts, reliability=_HEDGE) as running:
        call = asyncio.create_task(_chat(running))
        await asyncio.wait_for(running.backend.until_asked("second"), 10)
        release.set()
        response, headers = await call
        assert (_text(response.choices), headers["x-mycel-attempts"]) == ("first", "2")


@pytest.mark.parametrize(("share", "given_up"), [(1, 0), (0, 5)])
async def test_hedges_have_a_budget(tmp_path: Path, share: int, given_up: int) -> None:
    scripts = {"first": [asyncio.Event()], "second": answer("u", "quick")}
    hedge = f"hedge: {{unlearned: 1ms, share: {share}}}, first_token: 200ms"
    config = f"{hedge}, retry: {{rounds: 0}}, breaker: {{failures: 1000}}"
    async with mesh(tmp_path, scripts, reliability=config) as running:
        for _ in range(5):
            response, _ = await _chat(running, x_mycel_cache="off")
            assert _text(response.choices) == "quick"
        listed = await running.status.ListProviderHealth(status.ListProviderHealthRequest(), timeout=10)
        # A model that is hedged away tells nothing of its provider; one that is waited for and given up has failed.
        assert listed.providers[0].failures.get("DEADLINE_EXCEEDED", 0) == given_up


async def test_another_model_carries_an_answer_on(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), text("one "), text("two "), _DOWN],
        "second": [_exactly("u"), text("three"), *finish(prompt=20, completion_tokens=5)],
    }
    async with mesh(tmp_path, scripts) as running:
        events = await _stream(running)
        assert _told(events) == "one two three"
        [switch] = [event.provider_switched for event in events if event.HasField("provider_switched")]
        assert (switch.model, switch.provider, switch.reason) == ("second", "u", "BACKEND_UNAVAILABLE")
        assert running.backend.requests[1].continue_after == "one two "
        usage = events[-1].completed.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (20, 7)
        assert running.cache.stores.empty()


async def test_what_a_model_repeats_is_cut(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), text("The quick brown fox "), _DOWN],
        "second": [started("u"), text("quick bro"), text("wn fox jumps"), *finish()],
    }
    async with mesh(tmp_path, scripts) as running:
        assert _told(await _stream(running)) == "The quick brown fox jumps"


async def test_a_silent_stream_has_failed(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), text("one "), asyncio.Event()],
        "second": [_exactly("u"), text("two"), *finish()],
    }
    async with mesh(tmp_path, scripts, reliability="stall: 100ms") as running:
        assert _told(await _stream(running)) == "one two"
        await asyncio.wait_for(running.backend.cancelled.wait(), 10)


async def test_the_rest_gets_the_rest_of_the_tokens(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), text("a"), text("b"), _DOWN],
        "second": [_exactly("u"), text("c"), *finish()],
    }
    async with mesh(tmp_path, scripts) as running:
        value = _input()
        value.parameters.max_tokens = 10
        await _stream(running, value)
        assert running.backend.requests[1].input.parameters.max_tokens == 8


async def test_a_tool_call_is_not_continued_inside(tmp_path: Path) -> None:
    piece = chat.ToolCallDelta(id="1", name="f", arguments_json="{")
    call = completion.StreamCompletionResponse(delta=chat.ChoiceDelta(tool_calls=[piece]))
    scripts: dict[str, list[Step]] = {"first": [started("t"), call, _DOWN], "second": answer("u", "no")}
    async with mesh(tmp_path, scripts) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _stream(running)
        assert from_rpc_error(caught.value, "router").reason_name == "BACKEND_UNAVAILABLE"
        assert running.backend.asked == ["first"]


async def test_an_answer_in_json_is_not_continued(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [started("t"), text('{"a": '), _DOWN], "second": answer("u", "{}")}
    async with mesh(tmp_path, scripts) as running:
        value = _input()
        value.response_format.json_object = True
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _stream(running, value)
        assert from_rpc_error(caught.value, "router").reason_name == "BACKEND_UNAVAILABLE"


async def test_a_whole_answer_begins_again_when_it_cannot_be_joined(tmp_path: Path) -> None:
    piece = chat.ToolCallDelta(id="1", name="f", arguments_json="{")
    call = completion.StreamCompletionResponse(delta=chat.ChoiceDelta(text="let me see", tool_calls=[piece]))
    scripts: dict[str, list[Step]] = {"first": [started("t"), call, _DOWN], "second": answer("u", "it is 7")}
    async with mesh(tmp_path, scripts) as running:
        response, headers = await _chat(running)
        assert _text(response.choices) == "it is 7"
        assert not response.choices[0].message.tool_calls
        assert (headers["x-mycel-model"], headers["x-mycel-attempts"]) == ("second", "2")
        assert running.backend.requests[1].continue_after == ""
        assert running.cache.stores.empty()


async def test_a_whole_answer_is_carried_on_when_it_can_be_joined(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), text("one "), _DOWN],
        "second": [_exactly("u"), text("two"), *finish()],
    }
    async with mesh(tmp_path, scripts) as running:
        response, headers = await _chat(running)
        assert _text(response.choices) == "one two"
        assert headers["x-mycel-model"] == "second"


async def test_one_finished_answer_of_two_is_not_all(tmp_path: Path) -> None:
    end = finish()[0]
    scripts: dict[str, list[Step]] = {"first": [started("t"), text("one"), end, _DOWN]}
    async with mesh(tmp_path, scripts) as running:
        value = _input()
        value.parameters.n = 2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _stream(running, value, "first")
        assert from_rpc_error(caught.value, "router").reason_name == "BACKEND_UNAVAILABLE"


async def test_an_answer_that_lacks_only_its_usage_is_complete(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [started("t"), text("all"), finish()[0], _DOWN]}
    async with mesh(tmp_path, scripts) as running:
        events = await _stream(running, model="first")
        assert _told(events) == "all"
        assert events[-1].completed.usage.completion_tokens == 1


async def test_models_that_begin_and_die_end_the_call(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [started("t"), _DOWN], "second": [started("u"), _DOWN]}
    async with mesh(tmp_path, scripts) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _stream(running)
        assert from_rpc_error(caught.value, "router").reason_name == "BACKEND_UNAVAILABLE"


async def test_every_place_to_break_gives_the_same_text(tmp_path: Path) -> None:
    words = [f"word{number} " for number in range(40)]
    scripts: dict[str, list[Step]] = {"first": [], "second": []}
    async with mesh(tmp_path, scripts, reliability="breaker: {failures: 1000}") as running:
        for cut in range(1, len(words)):
            running.backend.play("first", [started("t"), *map(text, words[:cut]), _DOWN])
            running.backend.play(
                "second", [_exactly("u"), *map(text, words[cut:]), *finish(completion_tokens=40 - cut)]
            )
            events = await _stream(running)
            assert _told(events) == "".join(words)
            assert events[-1].completed.usage.completion_tokens == 40


async def test_sdks_read_over_the_announcement_of_a_switch(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), text("one "), _DOWN],
        "second": [_exactly("u"), text("two"), *finish()],
    }
    async with mesh(tmp_path, scripts) as running:
        body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        request = HttpBody(data=json.dumps(body).encode())
        parts = [part.data async for part in running.openai.CreateChatCompletion(request, metadata=_KEY, timeout=20)]
        events = b"".join(parts).decode().strip().split("\n\n")
        comments = [event for event in events if event.startswith(":")]
        assert comments == [
            ': mycel provider_switched {"model":"second","provider":"u","reason":"BACKEND_UNAVAILABLE"}'
        ]
