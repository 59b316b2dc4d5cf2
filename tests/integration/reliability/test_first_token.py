"""A model counts as begun with its first token, and a silent one leaves time for the next."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.status.v1 import status_service_pb2 as status

from tests.fakes.completion import Step, answer, started, text
from tests.integration.router.test_router import _DOWN, _KEY, Mesh, _chat, _input, _refusal, _text, mesh

_EMPTY = completion.StreamCompletionResponse(delta=chat.ChoiceDelta())
_NO_HEDGES = "hedge: {share: 0}, retry: {rounds: 0}"


def _in_haste(running: Mesh, model: str, seconds: float) -> object:
    request = chat_service.ChatRequest(model=model, input=_input())
    return running.chat.Chat(request, metadata=_KEY, timeout=seconds)


async def test_a_model_that_opens_and_says_nothing_is_hedged(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {
        "first": [started("t"), _EMPTY, asyncio.Event()],
        "second": answer("u", "quick"),
    }
    config = "hedge: {unlearned: 50ms, share: 1}, retry: {rounds: 0}"
    async with mesh(tmp_path, scripts, reliability=config) as running:
        response, headers = await _chat(running)
        assert (_text(response.choices), headers["x-mycel-model"]) == ("quick", "second")
        await asyncio.wait_for(running.backend.cancelled.wait(), 10)


async def test_one_that_opens_and_dies_is_no_switch(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [started("t"), _EMPTY, _DOWN], "second": answer("u", "whole")}
    async with mesh(tmp_path, scripts) as running:
        request = chat_service.StreamChatRequest(model="auto", input=_input())
        events = [event async for event in running.chat.StreamChat(request, metadata=_KEY, timeout=20)]
        assert "".join(event.delta.text for event in events) == "whole"
        assert not any(event.HasField("provider_switched") for event in events)
        assert (events[0].started.model, running.backend.requests[1].continue_after) == ("second", "")


async def test_a_silent_model_leaves_the_next_half_of_the_time(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [asyncio.Event()], "second": answer("u", "in time")}
    async with mesh(tmp_path, scripts, reliability=_NO_HEDGES) as running:
        response = await _in_haste(running, "auto", 3)  # type: ignore[misc]
        assert _text(response.choices) == "in time"
        await asyncio.wait_for(running.backend.cancelled.wait(), 10)


async def test_a_silent_model_has_failed_after_its_time(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [started("t"), asyncio.Event()], "second": answer("u", "next")}
    config = "first_token: 50ms, breaker: {failures: 1}, hedge: {share: 0}, retry: {rounds: 0}"
    async with mesh(tmp_path, scripts, reliability=config) as running:
        response, headers = await _chat(running)
        assert (_text(response.choices), headers["x-mycel-attempts"]) == ("next", "2")
        listed = await running.status.ListProviderHealth(status.ListProviderHealthRequest(), timeout=10)
        first = listed.providers[0]
        assert (first.breaker, first.last_error) == (status.BREAKER_STATE_OPEN, "DEADLINE_EXCEEDED")


async def test_the_haste_of_a_caller_opens_no_breaker(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [asyncio.Event()]}
    async with mesh(tmp_path, scripts, reliability=f"breaker: {{failures: 1, open: 60s}}, {_NO_HEDGES}") as running:
        error = await _refusal(_in_haste(running, "first", 0.2))
        assert error.reason_name == "DEADLINE_EXCEEDED"
        running.backend.play("first", answer("t", "well"))
        response, _ = await _chat(running, "first")
        assert _text(response.choices) == "well"


async def test_a_breaker_that_opens_meanwhile_keeps_the_call_away(tmp_path: Path) -> None:
    release = asyncio.Event()
    scripts: dict[str, list[Step]] = {"first": [release, _DOWN], "second": [_DOWN]}
    config = f"breaker: {{failures: 1, open: 60s, max_open: 60s}}, {_NO_HEDGES}"
    async with mesh(tmp_path, scripts, reliability=config) as running:
        call = asyncio.create_task(_refusal(_chat(running)))
        await asyncio.wait_for(running.backend.waiting.wait(), 10)
        assert (await _refusal(_chat(running, "second"))).reason_name == "BACKEND_UNAVAILABLE"
        release.set()
        error = await call
        assert (error.reason_name, error.metadata["second"]) == ("NO_CANDIDATE", "BREAKER_OPEN")
        assert running.backend.asked == ["first", "second"]


async def test_a_model_that_always_dies_is_not_gone_on_with_for_ever(tmp_path: Path) -> None:
    scripts: dict[str, list[Step]] = {"first": [started("t"), text("one "), _DOWN]}
    config = "breaker: {failures: 1000}, retry: {rounds: 2, base: 1ms}"
    async with mesh(tmp_path, scripts, reliability=config) as running:
        error = await _refusal(_chat(running, "first"))
        assert (error.reason_name, len(running.backend.asked)) == ("BACKEND_UNAVAILABLE", 4)
