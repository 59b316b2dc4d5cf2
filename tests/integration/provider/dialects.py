"""The four kinds as the contract tests see them: the same things said in each provider's own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anthropic
import ollama
import openai

from tests.fakes import anthropic_wire, azure_wire, ollama_wire, openai_server
from tests.fakes.wire_server import Reply, json_reply

Call = tuple[str, str, Sequence[str]]
"""A call of a tool: its id, its name, its arguments in pieces."""


@dataclass(frozen=True)
class Dialect:
    """A kind of provider and its API on the wire."""

    kind: str
    upstream: str
    """A model's name there."""
    settings: Callable[[str], str]
    """The provider's lines in mesh.yaml, of the server's address."""
    say: Callable[..., Reply]
    """An answer of text, in pieces; `finish` is one of `finishes`."""
    finishes: Mapping[str, str]
    """The API's words for why an answer ended: stop, length, filter, unknown."""
    call: Callable[[Sequence[Call]], Reply]
    """An answer that calls tools."""
    begun: Callable[..., Reply]
    """The beginning of an answer, one piece of text long; it does not end by itself."""
    counted: Callable[[int, int, int, int], Reply]
    """An answer with its usage: prompt (the cached ones included), completion, cached and reasoning tokens."""
    garbage: Reply
    """An answer that is not JSON."""
    died: Reply
    """An answer that breaks off with an error of the API's own, after a piece of text."""
    refusals: Mapping[str, Sequence[Reply]]
    """Errors for each reason."""
    ask: Callable[[str], Any]
    """Asks through the official SDK, and gives the text; of the server's address."""
    key_header: str
    told_secret: Reply
    """A refused key, repeated in the error."""

    def __repr__(self) -> str:
        return self.kind


CANARY = "sk-canary-0123456789abcdef0123456789abcdef"


def _openai_call(calls: Sequence[Call], lead: Sequence[Any] = ()) -> Reply:
    events: list[Any] = [*lead]
    for index, (call_id, name, pieces) in enumerate(calls):
        head = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(openai_server.chunk({"tool_calls": [head]}))
        events += [
            openai_server.chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            for piece in pieces
        ]
    return openai_server.wire([*events, openai_server.chunk({}, "tool_calls"), openai_server.usage_chunk()])


def _openai_say(*pieces: str, finish: str = "stop", lead: Sequence[Any] = (), **options: Any) -> Reply:
    return openai_server.wire([*lead, *openai_server.text_events(*pieces, finish=finish)], **options)


def _openai_begun(lead: Sequence[Any] = ()) -> Callable[..., Reply]:
    def begun(**options: Any) -> Reply:
        events = [*lead, *openai_server.text_events("one")[:2]]
        return Reply(
            content_type="text/event-stream",
            parts=[f"data: {json.dumps(event)}\n\n" for event in events],
            **{"whole": False, **options},
        )

    return begun


def _openai_counted(prompt: int, completion: int, cached: int, reasoning: int) -> Reply:
    events = openai_server.text_events("x")[:-1]
    return openai_server.wire([*events, openai_server.usage_chunk(prompt, completion, cached, reasoning)])


def _openai_error(status: int, message: str, code: str | None = None, kind: str = "e", **headers: str) -> Reply:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json_reply(status, {"error": error}, **headers)


def _html(status: int) -> Reply:
    return Reply(status, "text/html", body=b"<html>oops</html>")


EVERYWHERE: dict[str, list[Reply]] = {
    "BACKEND_UNAVAILABLE": [_html(500), _html(502), Reply(drop=True), _html(418)],
    "OVERLOADED": [_html(503), _html(529)],
    "DEADLINE_EXCEEDED": [_html(504), _html(408)],
    "BACKEND_AUTH": [_html(401), _html(403)],
    "REQUEST_TOO_LARGE": [_html(413)],
    "BACKEND_MALFORMED": [_html(200), Reply(content_type="application/json", body=b"{}")],
}
"""What every kind reads alike."""


async def _openai_ask(url: str) -> str:
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0) as client:
        return await _openai_read(client)


async def _azure_ask(url: str) -> str:
    async with openai.AsyncAzureOpenAI(
        api_key="x", azure_endpoint=url, api_version="2024-10-21", max_retries=0
    ) as client:
        return await _openai_read(client)


async def _openai_read(client: openai.AsyncOpenAI) -> str:
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


async def _anthropic_ask(url: str) -> str:
    async with (
        anthropic.AsyncAnthropic(api_key="x", base_url=url, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream,
    ):
        message = await stream.get_final_message()
    return "".join(block.text for block in message.content if block.type == "text")


async def _ollama_ask(url: str) -> str:
    client = ollama.AsyncClient(url)
    stream = await client.chat(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    text = "".join([part.message.content or "" async for part in stream])
    await client.close()
    return text


def _openai(kind: str, **more: Any) -> Dialect:
    lead = [azure_wire.OPENING] if kind == "azure_openai" else []
    died = openai_server.wire(
        [*lead, *openai_server.text_events("one")[:2], 'data: {"error": {"message": "died", "code": null}}\n\n']
    )
    return Dialect(
        kind=kind,
        upstream="gpt-4o-mini",
        say=lambda *pieces, **options: _openai_say(*pieces, lead=lead, **options),
        finishes={"stop": "stop", "length": "length", "filter": "content_filter", "unknown": "bored"},
        call=lambda calls: _openai_call(calls, lead),
        begun=_openai_begun(lead),
        counted=_openai_counted,
        garbage=openai_server.wire(["data: {not json\n\n"]),
        died=died,
        told_secret=_openai_error(401, f"Incorrect API key provided: {CANARY}"),
        **more,
    )


OPENAI = _openai(
    "openai",
    settings=lambda url: f"{{kind: openai, base_url: '{url}/v1', api_key_env: TEST_KEY}}",
    refusals={
        "RATE_LIMITED": [_openai_error(429, "slow down", retry_after="7")],
        "QUOTA_EXHAUSTED": [
            _openai_error(429, "pay", "insufficient_quota"),
            _openai_error(429, "pay", None, "insufficient_quota"),
        ],
        "CONTEXT_TOO_LONG": [
            _openai_error(400, "long", "context_length_exceeded"),
            _openai_error(400, "This model's maximum context length is 9 tokens."),
        ],
        "CONTENT_FILTERED": [_openai_error(400, "no", "content_filter")],
        "BACKEND_MODEL_MISSING": [_openai_error(404, "no such", "model_not_found")],
        "INVALID_ARGUMENT": [_openai_error(400, "bad"), _openai_error(422, "bad")],
        "UNSUPPORTED_FEATURE": [_openai_error(400, "no seed here", "unsupported_parameter")],
    },
    ask=_openai_ask,
    key_header="authorization",
)

AZURE = _openai(
    "azure_openai",
    settings=lambda url: f"{{kind: azure_openai, endpoint: '{url}', api_key_env: TEST_KEY, timeout: 20s}}",
    refusals={
        "RATE_LIMITED": [azure_wire.error(429, "429", "slow down", retry_after="7")],
        "QUOTA_EXHAUSTED": [azure_wire.error(429, "insufficient_quota", "pay")],
        "CONTEXT_TOO_LONG": [azure_wire.error(400, "context_length_exceeded", "long")],
        "CONTENT_FILTERED": [azure_wire.error(400, "content_filter", "the policy")],
        "BACKEND_MODEL_MISSING": [azure_wire.error(404, "DeploymentNotFound", "no such deployment")],
        "INVALID_ARGUMENT": [azure_wire.error(400, "BadRequest", "bad")],
        "UNSUPPORTED_FEATURE": [azure_wire.error(400, "unsupported_parameter", "no")],
    },
    ask=_azure_ask,
    key_header="api-key",
)


def _anthropic_call(calls: Sequence[Call]) -> Reply:
    blocks = [
        part
        for index, (call_id, name, pieces) in enumerate(calls)
        for part in anthropic_wire.tool_block(index + 1, call_id, name, *pieces)
    ]
    text = anthropic_wire.text_block(0, "calling")
    return anthropic_wire.stream([anthropic_wire.start(), *text, *blocks, *anthropic_wire.end("tool_use")])


def _anthropic_begun(**options: Any) -> Reply:
    parts = [anthropic_wire.start(), *anthropic_wire.text_block(0, "one")[:-1]]
    return anthropic_wire.stream(parts, **{"whole": False, **options})


def _anthropic_counted(prompt: int, completion: int, cached: int, reasoning: int) -> Reply:
    begin = anthropic_wire.start(prompt - cached, cache_read_input_tokens=cached)
    details = {"output_tokens_details": {"thinking_tokens": reasoning}}
    return anthropic_wire.stream(
        [begin, *anthropic_wire.text_block(0, "x"), *anthropic_wire.end("end_turn", completion, **details)]
    )


_died = anthropic_wire.event("error", error={"type": "api_error", "message": "died"})

ANTHROPIC = Dialect(
    kind="anthropic",
    upstream="claude-haiku-4-5",
    settings=lambda url: f"{{kind: anthropic, base_url: '{url}', api_key_env: TEST_KEY}}",
    say=anthropic_wire.say,
    finishes={"stop": "end_turn", "length": "max_tokens", "filter": "refusal", "unknown": "bored"},
    call=_anthropic_call,
    begun=_anthropic_begun,
    counted=_anthropic_counted,
    garbage=anthropic_wire.stream(["event: message_start\ndata: {not json\n\n"]),
    died=anthropic_wire.stream([*_anthropic_begun().parts, _died]),
    refusals={
        "RATE_LIMITED": [anthropic_wire.error(429, "rate_limit_error", "slow down", retry_after="7")],
        "QUOTA_EXHAUSTED": [
            anthropic_wire.error(402, "billing_error", "pay"),
            anthropic_wire.error(400, "invalid_request_error", "Your credit balance is too low"),
        ],
        "CONTEXT_TOO_LONG": [
            anthropic_wire.error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")
        ],
        "CONTENT_FILTERED": [
            anthropic_wire.error(400, "invalid_request_error", "Output blocked by content filtering policy")
        ],
        "BACKEND_MODEL_MISSING": [anthropic_wire.error(404, "not_found_error", "model: claude-9")],
        "INVALID_ARGUMENT": [anthropic_wire.error(400, "invalid_request_error", "messages: bad")],
        "UNSUPPORTED_FEATURE": [
            anthropic_wire.error(400, "invalid_request_error", "`temperature` is deprecated for this model.")
        ],
        "OVERLOADED": [anthropic_wire.error(529, "overloaded_error", "Overloaded")],
    },
    ask=_anthropic_ask,
    key_header="authorization",
    told_secret=anthropic_wire.error(401, "authentication_error", f"invalid x-api-key {CANARY}"),
)


def _ollama_call(calls: Sequence[Call]) -> Reply:
    # The arguments come as one object, and each call in a line of its own.
    lines = [
        ollama_wire.line(message_tool_calls=[ollama_wire.call(name, _object("".join(pieces)), call_id)])
        for call_id, name, pieces in calls
    ]
    return ollama_wire.stream([*lines, ollama_wire.end()])


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


OLLAMA = Dialect(
    kind="ollama",
    upstream="llama3.2",
    settings=lambda url: f"{{kind: ollama, base_url: '{url}', api_key_env: TEST_KEY}}",
    say=ollama_wire.say,
    finishes={"stop": "stop", "length": "length", "unknown": "bored"},
    call=_ollama_call,
    begun=lambda **options: ollama_wire.stream([ollama_wire.line("one")], **{"whole": False, **options}),
    counted=lambda prompt, completion, cached, reasoning: ollama_wire.stream(
        [ollama_wire.line("x"), ollama_wire.end("stop", prompt, completion, prompt_eval_cached_count=cached)]
    ),
    garbage=ollama_wire.stream(["{not json\n"]),
    died=ollama_wire.stream([ollama_wire.line("one"), '{"error": "died"}\n']),
    refusals={
        "RATE_LIMITED": [ollama_wire.error(429, "slow down", retry_after="7")],
        "QUOTA_EXHAUSTED": [ollama_wire.error(429, "you have reached your hourly usage limit")],
        "CONTEXT_TOO_LONG": [ollama_wire.error(400, "the input length exceeds the context length")],
        "BACKEND_MODEL_MISSING": [ollama_wire.error(404, 'model "m" not found, try pulling it first')],
        "INVALID_ARGUMENT": [ollama_wire.error(400, "bad")],
        "UNSUPPORTED_FEATURE": [ollama_wire.error(400, "registry.ollama.ai/library/m does not support tools")],
        "OVERLOADED": [ollama_wire.error(503, "server busy, please try again.  maximum pending requests exceeded")],
    },
    ask=_ollama_ask,
    key_header="authorization",
    told_secret=ollama_wire.error(401, f"unauthorized: {CANARY}"),
)

ALL = (OPENAI, AZURE, ANTHROPIC, OLLAMA)
