"""Errors over HTTP: OpenAI's shape, whoever made them, and what the official SDK makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MEANINGS, MycelError, invalid, reason_name
from tests.integration.envoy.door import Door, json_body, running_envoy

CHAT = "/v1/chat/completions"
MEBIBYTE = 1024 * 1024

HTTP_STATUS = {1: 499, 3: 400, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401, 4: 504}
"""What Envoy makes of gRPC codes."""

OTHER_STATUS = {ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE: 413}
OTHER_CODE = {
    ErrorReason.ERROR_REASON_UNAUTHENTICATED: "invalid_api_key",
    ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG: "context_length_exceeded",
    ErrorReason.ERROR_REASON_RATE_LIMITED: "rate_limit_exceeded",
    ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED: "insufficient_quota",
    ErrorReason.ERROR_REASON_CONTENT_FILTERED: "content_filter",
}


def failing_with(error: Exception) -> Any:
    async def fail(request: Any, context: Any) -> AsyncIterator[Any]:
        raise error
        yield

    return fail


async def error_of(door: Door, error: Exception) -> tuple[int, dict[str, Any], Any]:
    door.script.completion = failing_with(error)
    async with door.http() as client:
        answer = await client.post(CHAT, content=b"{}")
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return answer.status_code, body["error"], answer.headers


async def test_every_reason_has_its_status_and_code(door: Door) -> None:
    for reason, meaning in MEANINGS.items():
        status, error, _ = await error_of(door, MycelError(reason, "what happened"))
        assert status == OTHER_STATUS.get(reason, HTTP_STATUS[meaning.code]), reason_name(reason)
        code = OTHER_CODE.get(reason, reason_name(reason).lower())
        expected = {"message": "what happened", "type": meaning.wire_type, "param": None, "code": code}
        assert error == expected


async def test_a_refused_field_is_named(door: Door) -> None:
    status, error, _ = await error_of(door, invalid("messages[0].role", "no such role"))
    assert status == 400
    assert error["param"] == "messages[0].role"


@pytest.mark.parametrize(
    "message",
    [
        'quotes " and \\ and \\" and {"reason":"FAKE","field":"fake"}',
        "line\nbreak\ttab \x01 control",
        "é 🍄 漢字 <b>&amp;",
        '"',
        "\\",
        "x" * 5000,
    ],
)
async def test_any_message_comes_through(door: Door, message: str) -> None:
    error = MycelError(ErrorReason.ERROR_REASON_MODEL_NOT_FOUND, message, metadata={"aaa": 'b","field":"c'})
    status, body, _ = await error_of(door, error)
    assert status == 404
    assert body["message"] == message
    assert (body["code"], body["param"]) == ("model_not_found", None)


async def test_no_text_breaks_the_shape(door: Door) -> None:
    """What could be taken for JSON, in every order: quotes, escapes, braces, member names, control and wide letters."""
    pieces = [
        '"',
        "\\",
        "{",
        "}",
        ":",
        ",",
        '"reason":',
        '"message":"',
        '"field":"',
        "\\u0022",
        "\n",
        "\x7f",
        "é",
        "🍄",
    ]
    choose = random.Random(7)
    for _ in range(150):
        message, value = ("x" + "".join(choose.choices(pieces, k=choose.randrange(12))) for _ in range(2))
        error = MycelError(ErrorReason.ERROR_REASON_INVALID_ARGUMENT, message, field=value, metadata={"other": value})
        status, body, _ = await error_of(door, error)
        assert (status, body["message"], body["param"], body["code"]) == (400, message, value, "invalid_argument")


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (1.0, "1"), (1.5, "2"), (3600, "3600"), (None, None)])
async def test_the_time_to_wait_is_a_header(door: Door, seconds: float | None, header: str | None) -> None:
    error = MycelError(ErrorReason.ERROR_REASON_RATE_LIMITED, "slow down", retry_after=seconds)
    status, _, headers = await error_of(door, error)
    assert status == 429
    assert headers.get("retry-after") == header


async def test_a_defect_tells_nothing(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    status, error, _ = await error_of(door, ValueError("a secret"))
    assert status == 500
    assert error == {"message": "internal error", "type": "api_error", "param": None, "code": "internal"}
    assert "a secret" in caplog.text


async def test_metadata_sent_before_an_error_are_headers(door: Door) -> None:
    async def fail(request, context):
        await context.send_initial_metadata((("x-mycel-attempts", "3"),))
        raise invalid("n", "no")
        yield

    door.script.completion = fail
    async with door.http() as client:
        answer = await client.post(CHAT, content=b"{}")
    assert answer.status_code == 400
    assert answer.headers["x-mycel-attempts"] == "3"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/nothing?x=1"),
        ("GET", CHAT),
        ("DELETE", "/v1/models"),
        ("POST", "/mycel.openai.v1.OpenAIService/ListModels"),
        ("POST", "/mycel.cache.v1.CacheService/Invalidate"),
    ],
)
async def test_an_unknown_path_is_404(door: Door, method: str, path: str) -> None:
    async with door.http() as client:
        answer = await client.request(method, path, headers={"content-type": "application/json"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_body_limit(door: Door) -> None:
    seen = []

    async def count(request, context):
        seen.append(len(request.data))
        yield json_body("{}")

    door.script.completion = count
    largest = 32 * MEBIBYTE - 64  # the rest is for HttpBody's own fields
    async with door.http() as client:
        assert (await client.post(CHAT, content=b"x" * largest)).status_code == 200
        for size in (32 * MEBIBYTE, 40 * MEBIBYTE, 40_000_000):
            answer = await client.post(CHAT, content=b"x" * size)
            assert answer.status_code == 413
            assert answer.json()["error"] == {
                "message": "the request is larger than 32 MiB",
                "type": "invalid_request_error",
                "param": None,
                "code": "request_too_large",
            }
        assert (await client.post(CHAT, content=b"{}")).status_code == 200
    assert seen == [largest, 2], "what is too large never reaches the service"


async def test_a_body_beyond_all_limits_does_no_harm(door: Door) -> None:
    seen = []

    async def count(request, context):
        seen.append(len(request.data))
        yield json_body("{}")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * MEBIBYTE

    door.script.completion = count
    async with door.http() as client:
        # Envoy stops reading: whether the answer or the broken connection is seen first is the client's affair.
        with contextlib.suppress(httpx2.TransportError):
            assert (await client.post(CHAT, content=endless())).status_code == 413
        assert (await client.post(CHAT, content=b"{}")).status_code == 200
    assert seen == [2]


async def test_headers_that_are_too_large(door: Door) -> None:
    async with door.http() as client:
        answer = await client.get("/v1/models", headers={"x-large": "x" * 100_000})
        assert answer.status_code == 431
        assert answer.json()["error"]["code"] == "request_too_large"
        assert (await client.get("/v1/models")).status_code == 200


async def test_a_binary_header_that_is_not_base64_is_the_callers_mistake(door: Door) -> None:
    async with door.http() as client:
        answer = await client.get("/v1/models", headers={"x-something-bin": "!!!"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "x-something-bin" in answer.json()["error"]["message"]


async def test_a_deadline_is_kept(door: Door) -> None:
    cancelled = asyncio.Event()

    async def endless(request, context):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield

    door.script.completion = endless
    async with door.http() as client:
        answer = await client.post(CHAT, content=b"{}", headers={"grpc-timeout": "50m"})
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        async with asyncio.timeout(10):
            await cancelled.wait()
        assert (await client.get("/v1/models")).status_code == 200


async def test_a_deadline_that_passes_before_the_body_is_there(door: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: door\r\ngrpc-timeout: 50m\r\ncontent-length: 100\r\n\r\n{{"
    writer.write(head.encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b'"code":"deadline_exceeded"' in answer


async def test_a_router_that_is_down_and_comes_back() -> None:
    async with running_envoy() as door, door.http() as client:
        for _ in range(3):
            answer = await client.get("/v1/models")
            assert answer.status_code == 503
            assert answer.json()["error"] == {
                "message": "the service behind the door is not available",
                "type": "api_error",
                "param": None,
                "code": "backend_unavailable",
            }
        async with door.serve("router", door.router()):
            assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 503
        async with door.serve("router", door.router()):
            assert (await client.get("/v1/models")).status_code == 200


async def test_the_official_sdk_knows_the_errors(door: Door) -> None:
    cases = [
        (ErrorReason.ERROR_REASON_MODEL_NOT_FOUND, openai.NotFoundError),
        (ErrorReason.ERROR_REASON_UNAUTHENTICATED, openai.AuthenticationError),
        (ErrorReason.ERROR_REASON_PERMISSION_DENIED, openai.PermissionDeniedError),
        (ErrorReason.ERROR_REASON_INVALID_ARGUMENT, openai.BadRequestError),
        (ErrorReason.ERROR_REASON_RATE_LIMITED, openai.RateLimitError),
        (ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, openai.InternalServerError),
    ]
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="mycel-dev", max_retries=0) as client:
        for reason, expected in cases:
            door.script.completion = failing_with(MycelError(reason, "no", field="model"))
            with pytest.raises(expected) as raised:
                await client.chat.completions.create(model="x", messages=[{"role": "user", "content": "?"}])
            assert raised.value.param == "model"
            assert raised.value.code == OTHER_CODE.get(reason, reason_name(reason).lower())
            assert "no" in raised.value.message


async def test_the_official_sdk_raises_an_error_in_mid_stream(door: Door) -> None:
    async def breaks(request, context):
        chunk = '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}'
        yield _event(f"data: {chunk}\n\n")
        yield _event('data: {"error":{"message":"gone","type":"api_error","param":null,"code":"internal"}}\n\n')

    door.script.completion = breaks
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="k", max_retries=0) as client:
        messages = [{"role": "user", "content": "?"}]
        stream = await client.chat.completions.create(model="x", messages=messages, stream=True)
        assert (await anext(stream)).id == "1"
        with pytest.raises(openai.APIError, match="gone"):
            await anext(stream)


def _event(text: str) -> Any:
    body = json_body(text)
    body.content_type = "text/event-stream"
    return body
