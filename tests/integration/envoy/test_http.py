"""OpenAI's HTTP/JSON through Envoy: bodies pass as they are, streams are not held back, metadata are headers."""

from __future__ import annotations

import asyncio
import json

from google.api.httpbody_pb2 import HttpBody

from tests.integration.envoy.door import Door, json_body, until

CHAT = "/v1/chat/completions"


async def test_a_body_and_its_answer_pass_as_they_are(door: Door) -> None:
    seen = []

    async def echo(request, context):
        seen.append(request)
        yield json_body(request.data)

    door.script.completion = echo
    sent = '{"model": "auto", "messages": [],  "extra": {"n": 12345678901234567890, "s": "é🍄"}}'
    async with door.http() as client:
        answer = await client.post(CHAT, content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == sent
    assert seen[0].content_type == "application/json"


async def test_a_body_that_is_no_json_or_no_utf8_reaches_the_service(door: Door) -> None:
    seen = []

    async def echo(request, context):
        seen.append(request.data)
        yield json_body("{}")

    door.script.completion = echo
    async with door.http() as client:
        for body in (b'{"a": ', b'{"a": "\xff\xfe"}', b""):
            answer = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 200
    assert seen == [b'{"a": ', b'{"a": "\xff\xfe"}', b""]


async def test_a_stream_is_not_held_back(door: Door) -> None:
    first_seen = asyncio.Event()

    async def stream(request, context):
        yield _event("data: one\n\n")
        await first_seen.wait()  # would never be set if the first chunk waited for the last
        yield _event("data: two\n\n")
        yield _event("data: [DONE]\n\n")

    door.script.completion = stream
    received = []
    async with door.http() as client, client.stream("POST", CHAT, content=b"{}") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        async for chunk in answer.aiter_text():
            received.append(chunk)
            first_seen.set()
    assert "".join(received) == "data: one\n\ndata: two\n\ndata: [DONE]\n\n"
    assert received[0] == "data: one\n\n"


async def test_a_client_that_goes_away_cancels_the_handler(door: Door) -> None:
    cancelled = asyncio.Event()

    async def endless(request, context):
        try:
            yield _event("data: one\n\n")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    door.script.completion = endless
    async with door.http() as client:
        async with client.stream("POST", CHAT, content=b"{}") as answer:
            async for _ in answer.aiter_text():
                break
        async with asyncio.timeout(10):
            await cancelled.wait()
    async with door.http() as client:
        assert (await client.get("/v1/models")).status_code == 200


async def test_metadata_are_headers_both_ways(door: Door) -> None:
    seen: dict[str, str] = {}

    async def answer(request, context):
        seen.update(context.invocation_metadata())
        await context.send_initial_metadata((("x-mycel-cache", "miss"), ("x-mycel-model", "llama-local")))
        yield json_body("{}")

    door.script.completion = answer
    sent = {
        "authorization": "Bearer mycel-dev",
        "x-mycel-cache": "refresh",
        "x-mycel-cache-scope": "docs",
        "x-mycel-tenant": "somebody-else",
        "x-mycel-principal": "somebody-else",
    }
    async with door.http() as client:
        response = await client.post(CHAT, content=b"{}", headers=sent)
    assert response.headers["x-mycel-cache"] == "miss"
    assert response.headers["x-mycel-model"] == "llama-local"
    assert seen["authorization"] == "Bearer mycel-dev"
    assert seen["x-mycel-cache"] == "refresh"
    assert seen["x-mycel-cache-scope"] == "docs"
    assert "x-mycel-tenant" not in seen
    assert "x-mycel-principal" not in seen


async def test_large_headers_pass_both_ways(door: Door) -> None:
    large = "x" * 40_000

    async def answer(request, context):
        sent = dict(context.invocation_metadata())["x-large"]
        await context.send_initial_metadata((("x-mycel-explanation", sent),))
        yield json_body("{}")

    door.script.completion = answer
    async with door.http() as client:
        response = await client.post(CHAT, content=b"{}", headers={"x-large": large})
    assert response.status_code == 200
    assert response.headers["x-mycel-explanation"] == large


async def test_a_large_answer_passes(door: Door) -> None:
    body = json.dumps({"text": "x" * 8_000_000})

    async def answer(request, context):
        yield json_body(body)

    door.script.completion = answer
    async with door.http() as client:
        response = await client.post(CHAT, content=b"{}")
    assert response.text == body


async def test_models_by_name_with_slashes(door: Door) -> None:
    async def model(name, context):
        return json_body(json.dumps({"id": name}))

    door.script.models = model
    async with door.http() as client:
        assert (await client.get("/v1/models")).json() == {"id": ""}
        assert (await client.get("/v1/models/org%2Fname")).json() == {"id": "org/name"}
        assert (await client.get("/v1/models/org/name?unknown=1")).json() == {"id": "org/name"}


async def test_callers_cannot_set_envoys_own_timeouts(door: Door) -> None:
    asked = asyncio.Event()

    async def answer(request, context):
        asked.set()
        await context.send_initial_metadata(())
        yield json_body("{}")

    door.script.completion = answer
    headers = {"x-envoy-upstream-rq-timeout-ms": "0", "x-envoy-max-retries": "9", "x-envoy-retry-on": "5xx"}
    async with door.http() as client:
        assert (await client.post(CHAT, content=b"{}", headers=headers)).status_code == 200
    assert asked.is_set()


async def test_livez_needs_no_service(door: Door) -> None:
    async with door.http() as client:
        answer = await client.get("/livez")
    assert (answer.status_code, answer.text) == (200, "live\n")


async def test_http2_without_tls(door: Door) -> None:
    """curl --http2-prior-knowledge, as some SDKs speak it; the codec is found out from the first bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    empty_settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
    header = await asyncio.wait_for(reader.readexactly(9), 10)
    writer.close()
    await writer.wait_closed()
    assert header[3] == 4, "Envoy's first frame is SETTINGS"


async def test_the_access_log_tells_of_the_call_but_not_of_its_text(door: Door) -> None:
    secret = "the prompt's text"
    body = json.dumps({"messages": [{"role": "user", "content": secret}]})
    async with door.http() as client:
        headers = {"authorization": f"Bearer {secret}"}
        assert (await client.post(f"{CHAT}?q={secret}", content=body, headers=headers)).status_code == 200
    path = door.folder / "access.log"

    async def written() -> bool:
        return f'"path":"{CHAT}"' in path.read_text()

    await until(written, "line in the access log")
    logged = path.read_text()
    line = next(call for call in map(json.loads, filter(None, logged.splitlines())) if call["path"] == CHAT)
    assert line["listener"] == "ingress"
    assert (line["method"], line["status"]) == ("POST", 200)
    assert line["grpc_path"] == "/mycel.openai.v1.OpenAIService/CreateChatCompletion"
    assert "trace_id" in line
    assert "prompt" not in logged


def _event(text: str) -> HttpBody:
    return HttpBody(content_type="text/event-stream", data=text.encode())
