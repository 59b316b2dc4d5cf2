"""The router over real gRPC, before backends and a cache that do what each test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from mycel.cache.v1 import cache_service_pb2 as cache
from mycel.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from mycel.completion.v1.completion_service_pb2_grpc import add_CompletionServiceServicer_to_server
from mycel.error.v1.error_reason_pb2 import ErrorReason
from mycel.openai.v1 import openai_service_pb2 as openai_service
from mycel.openai.v1.openai_service_pb2_grpc import OpenAIServiceStub
from mycel.status.v1.status_service_pb2_grpc import StatusServiceStub

from services.common.channels import open_channel
from services.common.config import load_config
from services.common.errors import MycelError
from services.common.server import Service, running_server
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.router.serve import running_router
from services.router.settings import RouterSettings
from tests.fakes.completion import ScriptedBackend, ScriptedCache, Step, answer, finish, started, text

_KEY = (("authorization", "Bearer mycel-dev"),)
_OFF = Telemetry.disabled()
_DOWN = MycelError(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, "down")


@dataclass
class Mesh:
    """A running router and what is behind it."""

    chat: ChatServiceStub
    openai: OpenAIServiceStub
    status: StatusServiceStub
    backend: ScriptedBackend
    cache: ScriptedCache


@asynccontextmanager
async def mesh(
    folder: Path,
    scripts: Mapping[str, Iterable[Step]],
    outcomes: Iterable[cache.LookupResponse | MycelError | asyncio.Event] = (),
    *,
    extra: str = "",
    reliability: str = "retry: {rounds: 0}",
    cache_seconds: float = 5.0,
) -> AsyncIterator[Mesh]:
    path = folder / "mesh.yaml"
    path.write_text(
        "providers: {t: {kind: triton}, u: {kind: triton}}\n"
        "models: {first: {provider: t, context: 100, price: {input: 1, output: 2}}, second: {provider: u},\n"
        "         short: {provider: u, context: 50}}\n"
        "routes: {auto: {low: [first, second]}, tight: {low: [first, short, second]}}\n"
        f"reliability: {{{reliability}}}\n" + extra
    )
    backend, cache_fake = ScriptedBackend(scripts), ScriptedCache(list(outcomes))
    behind = [
        Service("cache", lambda server: add_CacheServiceServicer_to_server(cache_fake, server)),
        Service("completion", lambda server: add_CompletionServiceServicer_to_server(backend, server)),
    ]
    async with running_server("127.0.0.1:0", behind, _OFF) as inner:
        settings = RouterSettings(
            listen="127.0.0.1:0",
            mesh=inner.address,
            config=load_config(path).mesh,
            development_key=True,
            cache_seconds=cache_seconds,
            call_seconds=30,
        )
        async with running_router(settings, _OFF) as router, open_channel(router.address, _OFF) as channel:
            yield Mesh(
                ChatServiceStub(channel), OpenAIServiceStub(channel), StatusServiceStub(channel), backend, cache_fake
            )


def _input(words: str = "hello") -> chat.ChatInput:
    return chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=words)])])


async def _chat(running: Mesh, model: str = "auto", **headers: str) -> tuple[chat_service.ChatResponse, dict[str, Any]]:
    metadata = (*_KEY, *((name.replace("_", "-"), value) for name, value in headers.items()))
    call = running.chat.Chat(chat_service.ChatRequest(model=model, input=_input()), metadata=metadata, timeout=20)
    response = await call
    return response, dict(await call.initial_metadata())


async def _refusal(awaitable: Any) -> MycelError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return from_rpc_error(caught.value, "router")


def _text(choices: Iterable[chat.Choice]) -> str:
    return "".join(part.text for choice in choices for part in choice.message.content)


async def test_a_miss_is_answered_by_the_first_model_and_stored(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": answer("t", "hi ", "there")}) as running:
        response, headers = await _chat(running)
        assert _text(response.choices) == "hi there"
        assert {name: value for name, value in headers.items() if name.startswith("x-mycel")} == {
            "x-mycel-cache": "miss",
            "x-mycel-tier": "low",
            "x-mycel-model": "first",
            "x-mycel-provider": "t",
            "x-mycel-attempts": "1",
            "x-mycel-trace-id": "",
        }
        assert response.summary.cost_usd == pytest.approx((3 * 1 + 2 * 2) / 1e6)
        stored = await asyncio.wait_for(running.cache.stores.get(), 10)
        assert (stored.key.tenant, stored.key.model) == ("dev", "auto")
        assert _text(stored.answer.choices) == "hi there"
        assert stored.answer.model == "first"


async def test_a_hit_asks_no_model(tmp_path: Path) -> None:
    message = chat.Message(role=chat.ROLE_ASSISTANT, content=[chat.ContentPart(text="stored answer")])
    stored = cache.StoredAnswer(
        choices=[chat.Choice(message=message, finish_reason=chat.FINISH_REASON_STOP)],
        usage=chat.Usage(prompt_tokens=4, completion_tokens=6),
        model="first",
        provider="t",
        cost_usd=0.25,
    )
    hit = cache.LookupResponse(hit=cache.Hit(kind=cache.HIT_KIND_SEMANTIC, answer=stored))
    async with mesh(tmp_path, {}, [hit]) as running:
        response, headers = await _chat(running)
        assert _text(response.choices) == "stored answer"
        assert (headers["x-mycel-cache"], headers["x-mycel-attempts"]) == ("semantic", "0")
        assert (response.summary.cost_usd, response.summary.saved_usd) == (0.0, 0.25)
        assert response.usage.completion_tokens == 6
        assert running.backend.asked == []


async def test_a_cache_that_fails_is_a_miss(tmp_path: Path) -> None:
    broken = MycelError(ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, "broken")
    async with mesh(tmp_path, {"first": answer("t", "ok")}, [broken]) as running:
        response, headers = await _chat(running)
        assert (_text(response.choices), headers["x-mycel-cache"]) == ("ok", "miss")


async def test_a_cache_that_hangs_is_a_miss(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": answer("t", "ok")}, [asyncio.Event()], cache_seconds=0.05) as running:
        response, headers = await _chat(running)
        assert (_text(response.choices), headers["x-mycel-cache"]) == ("ok", "miss")


async def test_the_next_model_answers_when_the_first_fails(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": [_DOWN], "second": answer("t", "ok")}) as running:
        response, headers = await _chat(running)
        assert _text(response.choices) == "ok"
        assert (headers["x-mycel-model"], headers["x-mycel-attempts"]) == ("second", "2")
        assert running.backend.asked == ["first", "second"]


async def test_a_bad_request_is_not_tried_elsewhere(tmp_path: Path) -> None:
    refused = MycelError(ErrorReason.ERROR_REASON_CONTENT_FILTERED, "no", field="input.messages")
    async with mesh(tmp_path, {"first": [refused], "second": answer("t", "ok")}) as running:
        error = await _refusal(_chat(running))
        assert (error.reason_name, error.field) == ("CONTENT_FILTERED", "input.messages")
        assert running.backend.asked == ["first"]


async def test_when_all_fail_each_reason_is_told(tmp_path: Path) -> None:
    limited = MycelError(ErrorReason.ERROR_REASON_RATE_LIMITED, "slow", retry_after=3.0)
    async with mesh(tmp_path, {"first": [_DOWN], "second": [limited]}) as running:
        error = await _refusal(_chat(running))
        assert error.reason_name == "NO_CANDIDATE"
        assert error.metadata == {"first": "BACKEND_UNAVAILABLE", "second": "RATE_LIMITED"}
        assert error.retry_after == pytest.approx(3.0, abs=1.0)


async def test_a_failure_in_mid_stream_ends_the_answer_when_it_is_to(tmp_path: Path) -> None:
    scripts = {"first": [started("t"), text("half"), _DOWN], "second": answer("t", "x")}
    async with mesh(tmp_path, scripts, reliability="on_stream_failure: error") as running:
        call = running.chat.StreamChat(
            chat_service.StreamChatRequest(model="auto", input=_input()), metadata=_KEY, timeout=20
        )
        received = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in call:
                received.append(event.delta.text)
        assert "".join(received) == "half"
        assert from_rpc_error(caught.value, "router").reason_name == "BACKEND_UNAVAILABLE"
        assert running.backend.asked == ["first"]
        assert running.cache.stores.empty()


async def test_a_stream_keeps_its_grammar(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": answer("t", "a", "b")}) as running:
        request = chat_service.StreamChatRequest(model="first", input=_input())
        events = [event async for event in running.chat.StreamChat(request, metadata=_KEY, timeout=20)]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds == ["started", "delta", "delta", "delta", "completed"]
        assert events[-1].completed.summary.tier == "pinned"


async def test_a_caller_that_goes_away_stops_the_backend(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": [started("t"), text("a"), asyncio.Event()]}) as running:
        request = chat_service.StreamChatRequest(model="auto", input=_input())
        call = running.chat.StreamChat(request, metadata=_KEY, timeout=20)
        await call.read()
        await asyncio.wait_for(running.backend.waiting.wait(), 10)
        call.cancel()
        await asyncio.wait_for(running.backend.cancelled.wait(), 10)


async def test_the_backend_gets_what_is_left_of_the_deadline(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": answer("t", "a")}) as running:
        await _chat(running)
        left = running.backend.time_remaining[0]
        assert left is not None
        assert 0 < left < 25  # gRPC rounds, and the router gives calls 30 s by itself


async def test_a_deadline_that_passes_is_typed(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": [asyncio.Event()]}) as running:
        request = chat_service.ChatRequest(model="first", input=_input())
        error = await _refusal(running.chat.Chat(request, metadata=_KEY, timeout=0.2))
        assert error.reason_name == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("mode", "configured", "looked_up", "stored"),
    [
        ("", "", cache.CACHE_MODE_SEMANTIC, True),
        ("off", "", None, False),
        ("exact", "", cache.CACHE_MODE_EXACT, True),
        ("refresh", "", cache.CACHE_MODE_REFRESH, True),
        ("semantic", "cache: {mode: exact}", cache.CACHE_MODE_EXACT, True),
        ("semantic", "cache: {mode: 'off'}", None, False),
    ],
)
async def test_the_cache_mode_is_honoured(
    tmp_path: Path, mode: str, configured: str, looked_up: int | None, stored: bool
) -> None:
    async with mesh(tmp_path, {"first": answer("t", "a")}, extra=configured) as running:
        headers = {"x_mycel_cache": mode, "x_mycel_cache_scope": "app-1"} if mode else {}
        _, answered = await _chat(running, **headers)
        assert [lookup.mode for lookup in running.cache.lookups] == ([] if looked_up is None else [looked_up])
        assert answered["x-mycel-cache"] == ("bypass" if looked_up is None else "miss")
        if stored:
            request = await asyncio.wait_for(running.cache.stores.get(), 10)
            assert request.key.scope == ("app-1" if mode else "")
    assert running.cache.stores.empty()


@pytest.mark.parametrize(
    ("model", "headers", "reason", "field"),
    [
        ("gpt-9", {}, "MODEL_NOT_FOUND", "model"),
        ("auto", {"x_mycel_cache": "perhaps"}, "INVALID_ARGUMENT", "x-mycel-cache"),
        ("auto", {"x_mycel_cache_scope": "a b"}, "INVALID_ARGUMENT", "x-mycel-cache-scope"),
    ],
)
async def test_bad_calls_are_refused(
    tmp_path: Path, model: str, headers: dict[str, str], reason: str, field: str
) -> None:
    async with mesh(tmp_path, {"first": answer("t", "a")}) as running:
        error = await _refusal(_chat(running, model, **headers))
        assert (error.reason_name, error.field) == (reason, field)
        assert running.backend.asked == []


async def test_every_method_wants_a_key(tmp_path: Path) -> None:
    async with mesh(tmp_path, {}) as running:
        calls = [
            running.chat.Chat(chat_service.ChatRequest(), timeout=10),
            running.chat.StreamChat(chat_service.StreamChatRequest(), timeout=10).read(),
            running.openai.CreateChatCompletion(HttpBody(), timeout=10).read(),
            running.openai.CreateEmbedding(HttpBody(), timeout=10),
            running.openai.ListModels(openai_service.ListModelsRequest(), timeout=10),
            running.openai.RetrieveModel(openai_service.RetrieveModelRequest(), timeout=10),
        ]
        for call in calls:
            assert (await _refusal(call)).reason_name == "UNAUTHENTICATED"


async def _openai(running: Mesh, **fields: Any) -> list[HttpBody]:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **fields}
    request = HttpBody(content_type="application/json", data=json.dumps(body).encode())
    return [part async for part in running.openai.CreateChatCompletion(request, metadata=_KEY, timeout=20)]


async def test_openai_whole(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": answer("t", "hi")}) as running:
        [body] = await _openai(running)
        value = json.loads(body.data)
        assert body.content_type == "application/json"
        assert value["choices"][0]["message"] == {"role": "assistant", "content": "hi", "refusal": None}
        assert value["choices"][0]["finish_reason"] == "stop"
        assert value["usage"]["total_tokens"] == 5


async def test_openai_stream(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": answer("t", "hi", "!")}) as running:
        parts = await _openai(running, stream=True, stream_options={"include_usage": True})
        assert {part.content_type for part in parts} == {"text/event-stream"}
        events = b"".join(part.data for part in parts).decode().strip().split("\n\n")
        assert events[-1] == "data: [DONE]"
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "hi"}
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 2)


async def test_openai_stream_that_breaks_says_so(tmp_path: Path) -> None:
    scripts = {"first": [started("t"), text("half"), _DOWN]}
    async with mesh(tmp_path, scripts, reliability="on_stream_failure: error") as running:
        request = HttpBody(
            data=json.dumps({"model": "first", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
        )
        received = b""
        with pytest.raises(grpc.aio.AioRpcError):
            async for part in running.openai.CreateChatCompletion(request, metadata=_KEY, timeout=20):
                received += part.data
        last = json.loads(received.decode().strip().split("\n\n")[-1].removeprefix("data: "))
        assert last["error"]["code"] == "backend_unavailable"


async def test_models_are_listed_with_routes(tmp_path: Path) -> None:
    async with mesh(tmp_path, {"first": [], "second": []}) as running:
        listed = await running.openai.ListModels(openai_service.ListModelsRequest(), metadata=_KEY, timeout=10)
        names = [model["id"] for model in json.loads(listed.data)["data"]]
        assert names == ["auto", "tight", "first", "second", "short"]
        error = await _refusal(
            running.openai.RetrieveModel(openai_service.RetrieveModelRequest(model="x"), metadata=_KEY, timeout=10)
        )
        assert error.reason_name == "MODEL_NOT_FOUND"


async def test_several_answers_are_kept_apart(tmp_path: Path) -> None:
    second = text("other")
    second.delta.index = 1
    async with mesh(tmp_path, {"first": [started("t"), text("one"), second, *finish()]}) as running:
        response, _ = await _chat(running)
        assert [choice.message.content[0].text for choice in response.choices] == ["one", "other"]
