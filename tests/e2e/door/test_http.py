"""The door over HTTP/JSON: answers, and every kind of bad input in OpenAI's shape, after which the next call works."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.e2e.door.door import Door

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Who carries water?"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": MESSAGES} | fields


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    """Gives the error, whose shape is always the same."""
    assert answer.headers["content-type"] == "application/json"
    parsed = answer.json()
    assert set(parsed) == {"error"}
    assert set(parsed["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = parsed["error"]
    assert error["message"]
    return error


async def test_an_answer_in_one_piece(door: Door) -> None:
    async with door.http(**{"x-mycel-cache": "off"}) as client:
        answer = await client.post(CHAT, json=body())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-mycel-model"] == "tiny"
    assert answer.headers["x-mycel-cache"] == "bypass"
    assert len(answer.headers["x-mycel-trace-id"]) == 32
    parsed = answer.json()
    assert parsed["object"] == "chat.completion"
    message = parsed["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", door.answer)
    assert parsed["choices"][0]["finish_reason"] == "stop"
    assert parsed["usage"]["total_tokens"] > 0


async def test_an_answer_piece_by_piece(door: Door) -> None:
    async with (
        door.http(**{"x-mycel-cache": "off"}) as client,
        client.stream("POST", CHAT, json=body(stream=True, stream_options={"include_usage": True})) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-mycel-model"] == "tiny"
        lines = [line async for line in answer.aiter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(texts) == door.answer
    assert chunks[-1]["usage"]["total_tokens"] > 0


async def test_the_models_and_one_of_them(door: Door) -> None:
    async with door.http() as client:
        listed = (await client.get("/v1/models")).json()
        assert {"auto", "tiny", "endless"} == {model["id"] for model in listed["data"]}
        assert (await client.get("/v1/models/tiny")).json()["description"] == "says one sentence"
        unknown = await client.get("/v1/models/org%2Fname")
    assert unknown.status_code == 404
    assert error_of(unknown)["code"] == "model_not_found"


BAD_FIELDS: dict[str, tuple[Any, str | None]] = {
    "no messages": (body(messages=[]), "messages"),
    "messages are absent": ({"model": "auto"}, "messages"),
    "messages are null": (body(messages=None), "messages"),
    "messages are a text": (body(messages="Hello"), "messages"),
    "a message is a text": (body(messages=["Hello"]), "messages[0]"),
    "no role": (body(messages=[{"content": "?"}]), "messages[0].role"),
    "a role that does not exist": (body(messages=[{"role": "wizard", "content": "?"}]), "messages[0].role"),
    "no content": (body(messages=[{"role": "user"}]), "messages[0].content"),
    "an empty content": (body(messages=[{"role": "user", "content": ""}]), "messages[0].content"),
    "content is a number": (body(messages=[{"role": "user", "content": 7}]), "messages[0].content"),
    "a negative temperature": (body(temperature=-1), "temperature"),
    "temperature is a text": (body(temperature="hot"), "temperature"),
    "top_p 0": (body(top_p=0), "top_p"),
    "presence_penalty 3": (body(presence_penalty=3), "presence_penalty"),
    "max_tokens 0": (body(max_tokens=0), "max_tokens"),
    "max_tokens -1": (body(max_tokens=-1), "max_tokens"),
    "max_tokens 1.5": (body(max_tokens=1.5), "max_tokens"),
    "max_tokens beyond 32 bits": (body(max_tokens=2**40), "max_tokens"),
    "max_completion_tokens 0": (body(max_completion_tokens=0), "max_tokens"),
    "n 0": (body(n=0), "n"),
    "a field that does not exist": (body(temprature=1), "temprature"),
    "no model": ({"messages": MESSAGES}, "model"),
    "model is a number": (body(model=4), "model"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", BAD_FIELDS)
async def test_a_wrong_field_is_named(door: Door, name: str, stream: bool) -> None:
    sent, field = BAD_FIELDS[name]
    async with door.http() as client:
        answer = await client.post(CHAT, json=sent | {"stream": stream})
    assert answer.status_code == 400, answer.text
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_argument")
    assert error["param"] == field
    assert error["param"] in error["message"]
    await door.works()


@pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_what_is_no_number_is_refused_by_name(door: Door, name: str, number: str) -> None:
    text = json.dumps(body()).removesuffix("}") + f', "{name}": {number}}}'
    async with door.http() as client:
        answer = await client.post(CHAT, content=text)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == name
    await door.works()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"hello",
        b'{"model": }',
        b"[1]",
        b'"text"',
        b"null",
        b"7",
        b"[" * 100_000,
        b"\x00",
        b'{"a": 1} {"b": 2}',
    ],
)
async def test_a_body_that_is_not_a_json_object(door: Door, sent: bytes) -> None:
    async with door.http() as client:
        answer = await client.post(CHAT, content=sent)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_json"
    await door.works()


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
async def test_a_body_that_is_not_utf8(door: Door, broken: bytes) -> None:
    sent = json.dumps(body()).encode().replace(b"water", broken)
    async with door.http() as client:
        answer = await client.post(CHAT, content=sent)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_json"
    assert "UTF-8" in error_of(answer)["message"]
    await door.works()


async def test_half_a_character_is_refused_by_field(door: Door) -> None:
    sent = json.dumps(body()).replace("water", "\\ud83c")
    async with door.http() as client:
        answer = await client.post(CHAT, content=sent)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "messages[0].content"
    await door.works()


@pytest.mark.parametrize("model", ["gpt-9", "", "AUTO", "tiny ", "🍄", '"', "x" * 5000])
async def test_an_unknown_model_names_the_known_ones(door: Door, model: str) -> None:
    async with door.http() as client:
        answer = await client.post(CHAT, json=body(model=model))
    assert answer.status_code == 404
    error = error_of(answer)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    for known in ("auto", "tiny", "endless"):
        assert known in error["message"]
    await door.works()


@pytest.mark.parametrize("authorization", ["", "mycel-dev", "Bearer", "Bearer wrong", "Basic bXljZWw6ZGV2", "Bearer é"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/embeddings"])
async def test_a_wrong_key(door: Door, authorization: str, path: str) -> None:
    async with door.http() as client:
        headers = {"authorization": authorization.encode()}
        method, content = ("GET", None) if path == "/v1/models" else ("POST", json.dumps(body()))
        answer = await client.request(method, path, content=content, headers=headers)
    assert answer.status_code == 401
    error = error_of(answer)
    assert (error["type"], error["code"], error["param"]) == (
        "authentication_error",
        "invalid_api_key",
        "authorization",
    )
    await door.works()


async def test_a_missing_key(door: Door) -> None:
    async with httpx2.AsyncClient(base_url=door.url) as client:
        answer = await client.post(CHAT, json=body())
    assert answer.status_code == 401
    assert error_of(answer)["code"] == "invalid_api_key"
    await door.works()


@pytest.mark.parametrize(("header", "value"), [("x-mycel-cache", "sometimes"), ("x-mycel-cache-scope", "x" * 5000)])
async def test_a_wrong_header_is_named(door: Door, header: str, value: str) -> None:
    async with door.http(**{header: value}) as client:
        answer = await client.post(CHAT, json=body())
    assert answer.status_code == 400
    assert error_of(answer)["param"] == header
    await door.works()


async def test_forty_megabytes(door: Door) -> None:
    async with door.http() as client:
        answer = await client.post(CHAT, json=body(messages=[{"role": "user", "content": "x" * 40_000_000}]))
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"
    await door.works()


async def test_a_prompt_that_is_longer_than_the_context(door: Door) -> None:
    async with door.http() as client:
        messages = [{"role": "user", "content": "word " * 200_000}]
        answer = await client.post(CHAT, json=body(model="tiny", messages=messages))
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "context_length_exceeded"
    await door.works()


async def test_a_deadline_of_one_millisecond(door: Door) -> None:
    async with door.http(**{"grpc-timeout": "1m", "x-mycel-cache": "off"}) as client:
        for _ in range(10):
            answer = await client.post(CHAT, json=body(model="endless"))
            assert answer.status_code == 504
            assert error_of(answer)["code"] == "deadline_exceeded"
    await door.works()


async def test_clients_that_go_away_in_mid_stream(door: Door) -> None:
    """More of them than the model has places: were they not given back, the last call would wait for ever."""
    for _ in range(6):
        async with (
            door.http(**{"x-mycel-cache": "off"}) as client,
            client.stream("POST", CHAT, json=body(model="endless", stream=True)) as answer,
        ):
            assert answer.status_code == 200
            async for _chunk in answer.aiter_bytes():
                break
    async with door.http(**{"x-mycel-cache": "off"}) as client:
        whole = await client.post(CHAT, json=body(model="endless", max_tokens=4))
    assert whole.json()["choices"][0]["finish_reason"] == "length"
    await door.works()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/nothing"), ("GET", CHAT), ("PUT", "/v1/models"), ("GET", "/")]
)
async def test_an_unknown_path(door: Door, method: str, path: str) -> None:
    async with door.http() as client:
        answer = await client.request(method, path)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "not_found"


async def test_the_other_services_are_not_at_the_door(door: Door) -> None:
    async with door.http() as client:
        for path in ("/mycel.cache.v1.CacheService/Invalidate", "/mycel.completion.v1.CompletionService/ListModels"):
            answer = await client.post(path, json={})
            assert answer.status_code == 404
