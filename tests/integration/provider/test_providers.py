"""Providers as mesh.yaml has them: several of a kind, off and why, without keys, with headers, out of reach."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub
from mycel.embedding.v1 import embedding_service_pb2 as embedding
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from pydantic import SecretStr

from services.common.channels import open_channel
from services.common.config import MeshConfig, load_config
from services.common.errors import MycelError
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.provider.adapter import Account
from services.provider.registry import Registry
from services.provider.serve import running_provider
from services.provider.settings import ProviderSettings
from tests.fakes import anthropic_wire
from tests.fakes.wire_server import Reply, json_reply, wire_server
from tests.integration.provider.conftest import question, texts
from tests.integration.provider.dialects import ALL, ANTHROPIC, AZURE, CANARY, OLLAMA, OPENAI, Dialect


@asynccontextmanager
async def serving(path: Path, providers: str, models: str) -> AsyncIterator[grpc.aio.Channel]:
    path.write_text(  # noqa: ASYNC240 - a line of text
        f"providers: {{{providers}}}\nmodels: {{{models}}}\nroutes: {{auto: {{low: [m]}}}}\n"
    )
    settings = ProviderSettings("127.0.0.1:0", load_config(path).mesh)
    async with (
        running_provider(settings, Telemetry.disabled()) as running,
        open_channel(running.address, Telemetry.disabled()) as channel,
    ):
        yield channel


async def _ask(channel: grpc.aio.Channel, model: str = "m") -> str:
    request = completion.StreamCompletionRequest(model=model, input=question())
    return texts([event async for event in CompletionServiceStub(channel).StreamCompletion(request, timeout=20)])


async def _failure(work: Callable[[], Awaitable[object]]) -> MycelError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await work()
    return from_rpc_error(caught.value, "provider")


async def test_several_of_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(wire_server(OPENAI.say(f"of {index}", finish="stop"))) for index in range(2)
        ]
        for index in range(2):
            monkeypatch.setenv(f"KEY_{index}", f"key-of-{index}")
        providers = ", ".join(
            f"p{index}: {{kind: openai, base_url: '{server.url}/v1', api_key_env: KEY_{index}, quota_group: shared}}"
            for index, server in enumerate(servers)
        )
        models = "m: {provider: p0}, n: {provider: p1}"
        channel = await stack.enter_async_context(serving(tmp_path / "mesh.yaml", providers, models))
        assert [await _ask(channel, name) for name in ("m", "n")] == ["of 0", "of 1"]
        assert [server.received[0].headers["authorization"] for server in servers] == [
            "Bearer key-of-0",
            "Bearer key-of-1",
        ]
        listed = await CompletionServiceStub(channel).ListModels(completion.ListModelsRequest(), timeout=10)
        assert [(status.name, status.quota_group) for status in listed.providers] == [
            ("p0", "shared"),
            ("p1", "shared"),
        ]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("kind: openai", "OPENAI_API_KEY is not set"),
        ("kind: anthropic", "ANTHROPIC_API_KEY is not set"),
        ("kind: azure_openai, endpoint: 'http://127.0.0.1:1'", "AZURE_OPENAI_API_KEY is not set"),
        ("kind: azure_openai, api_key_env: KEY", "it has no endpoint, and AZURE_OPENAI_ENDPOINT is not set"),
        ("kind: ollama, api_key_env: MISSING", "MISSING is not set"),
        ("kind: ollama, headers: {X-Team: $MISSING}", "MISSING is not set"),
        ("kind: openai, api_key_env: FILED", "FILED_FILE: /nowhere: No such file or directory"),
    ],
)
async def test_off_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, why: str) -> None:
    for name in ("OPENAI", "ANTHROPIC", "AZURE_OPENAI"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    monkeypatch.setenv("KEY", "k")
    monkeypatch.setenv("FILED_FILE", "/nowhere")
    async with serving(tmp_path / "mesh.yaml", f"p: {{{settings}}}", "m: {provider: p}") as channel:
        listed = await CompletionServiceStub(channel).ListModels(completion.ListModelsRequest(), timeout=10)
        assert (listed.models[0].available, listed.models[0].unavailable_reason) == (False, why)
        assert (listed.providers[0].on, listed.providers[0].why_off) == (False, why)
        error = await _failure(lambda: _ask(channel))
        assert (error.reason_name, error.metadata["why"]) == ("PROVIDER_OFF", why)


@pytest.mark.parametrize(
    ("settings", "dialect"),
    [
        ("kind: openai, base_url: '{}/v1', api_key_env: null", OPENAI),
        ("kind: anthropic, base_url: '{}', api_key_env: null", ANTHROPIC),
        ("kind: ollama, base_url: '{}'", OLLAMA),
    ],
    ids=["openai", "anthropic", "ollama"],
)
async def test_without_a_key_none_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, dialect: Dialect
) -> None:
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "of-someone-else")
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    monkeypatch.setenv("TEAM", "blue")
    headers = ", headers: {X-Team: $TEAM, X-Plain: yes}"
    async with wire_server(dialect.say("fine", finish=dialect.finishes["stop"])) as server:
        lines = settings.format(server.url) + headers.replace("yes", "'1'")
        async with serving(tmp_path / "mesh.yaml", f"p: {{{lines}}}", "m: {provider: p}") as channel:
            assert await _ask(channel) == "fine"
    sent = server.received[0].headers
    assert "of-someone-else" not in str(sent)
    assert "authorization" not in sent
    assert (sent["x-team"], sent["x-plain"]) == ("blue", "1")


@asynccontextmanager
async def _no_tls(*, talks: bool) -> AsyncIterator[str]:
    """Gives the https address of a server that answers with something else than TLS, or with nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if talks:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("talks", [True, False], ids=["other", "silent"])
@pytest.mark.parametrize("dialect", ALL, ids=repr)
async def test_tls_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, talks: bool) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    async with _no_tls(talks=talks) as url:
        settings = dialect.settings(url).replace("}", ", connect_timeout: 500ms}")
        async with serving(tmp_path / "mesh.yaml", f"p: {settings}", "m: {provider: p}") as channel:
            error = await _failure(lambda: _ask(channel))
    assert error.reason_name == "BACKEND_UNAVAILABLE"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid"])
@pytest.mark.parametrize("dialect", ALL, ids=repr)
async def test_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, url: str) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    async with serving(tmp_path / "mesh.yaml", f"p: {dialect.settings(url)}", "m: {provider: p}") as channel:
        error = await _failure(lambda: _ask(channel))
    assert error.reason_name == "BACKEND_UNAVAILABLE"
    assert error.metadata["provider"] == "p"


async def test_a_provider_that_says_nothing_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k")
    for dialect in (OPENAI, ANTHROPIC, OLLAMA):
        never = dialect.begun(hold=asyncio.Event())
        async with wire_server(never) as server:
            settings = dialect.settings(server.url).replace("TEST_KEY", "KEY").replace("}", ", timeout: 300ms}")
            async with serving(tmp_path / "mesh.yaml", f"p: {settings}", "m: {provider: p}") as channel:
                assert (await _failure(lambda: _ask(channel))).reason_name == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("dialect", "event", "reason"),
    [
        (OPENAI, 'data: {"error": {"message": "slow", "code": "rate_limit_exceeded"}}\n\n', "RATE_LIMITED"),
        (ANTHROPIC, anthropic_wire.event("error", error={"type": "overloaded_error", "message": "x"}), "OVERLOADED"),
        (OLLAMA, '{"error": "server busy, please try again"}\n', "OVERLOADED"),
        (OLLAMA, '{"error": "the input length exceeds the context length"}\n', "CONTEXT_TOO_LONG"),
    ],
)
async def test_an_error_inside_an_answer_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, event: str, reason: str
) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    begun = dialect.begun()
    async with (
        wire_server(Reply(content_type=begun.content_type, parts=[*begun.parts, event])) as server,
        serving(tmp_path / "mesh.yaml", f"p: {dialect.settings(server.url)}", "m: {provider: p}") as channel,
    ):
        assert (await _failure(lambda: _ask(channel))).reason_name == reason


def test_keys_are_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", CANARY)
    providers = {
        dialect.kind: yaml.safe_load(dialect.settings("http://127.0.0.1:1")) | {"headers": {"X-Secret": "$TEST_KEY"}}
        for dialect in ALL
    }
    models = {kind: {"provider": kind} for kind in providers}
    config = MeshConfig.model_validate(
        {"providers": providers, "models": models, "routes": {"auto": {"low": ["openai"]}}}
    )
    registry = Registry.from_config(config)
    key = SecretStr(CANARY)
    account = Account("p", config.providers["openai"], key, {"X-Secret": key})
    adapters = [registry.find(kind).adapter for kind in providers]
    assert len(adapters) == 4
    told = [repr(config), repr(account), repr(registry), *map(repr, adapters), *(repr(vars(each)) for each in adapters)]
    assert CANARY not in "".join(told)


def _vectors(kind: str) -> Reply:
    if kind == "ollama":
        return json_reply(200, {"model": "e", "embeddings": [[3.0, 4.0], [0.0, 2.0]], "prompt_eval_count": 7})
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in ((1, [0, 2]), (0, [3, 4]))
    ]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return json_reply(200, {"object": "list", "data": data, "model": "e", "usage": usage})


@pytest.mark.parametrize("dialect", [OPENAI, AZURE, OLLAMA], ids=repr)
async def test_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    models = "m: {provider: p}, e: {provider: p, model: text-embedding-3-small, capabilities: {chat: false}}"
    async with (
        wire_server(_vectors(dialect.kind)) as server,
        serving(tmp_path / "mesh.yaml", f"p: {dialect.settings(server.url)}", models) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        answer = await stub.Embed(embedding.EmbedRequest(texts=["a", "b"]), timeout=10)
        vectors = [list(vector.values) for vector in answer.embeddings]
        assert vectors == [pytest.approx([0.6, 0.8]), pytest.approx([0, 1])]
        assert (answer.embedder_id, answer.prompt_tokens) == ("p/text-embedding-3-small", 7)
        assert math.isclose(math.hypot(*vectors[0]), 1, rel_tol=1e-6)
        error = await _failure(lambda: stub.Embed(embedding.EmbedRequest(texts=["one"]), timeout=10))
        assert error.reason_name == "BACKEND_MALFORMED"
        for texts_, field in (([], "texts"), ([""], "texts[0]"), (["x" * (1024 * 1024 + 1)], "texts[0]")):
            error = await _failure(lambda texts_=texts_: stub.Embed(embedding.EmbedRequest(texts=texts_), timeout=10))
            assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", field)
        server.replies = [dialect.refusals["RATE_LIMITED"][0]]
        error = await _failure(lambda: stub.Embed(embedding.EmbedRequest(texts=["a"]), timeout=10))
        assert (error.reason_name, error.retry_after) == ("RATE_LIMITED", pytest.approx(7))
        error = await _failure(lambda: _ask(channel, "e"))
        assert (error.reason_name, error.field) == ("UNSUPPORTED_FEATURE", "model")


async def test_the_rest_of_what_azure_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    async with wire_server(AZURE.say("fine", finish="stop")) as server:
        settings = AZURE.settings(server.url).replace("endpoint", "api_version: '2025-01-01', endpoint")
        models = "m: {provider: p, model: my-deployment}"
        async with serving(tmp_path / "mesh.yaml", f"p: {settings}", models) as channel:
            assert await _ask(channel) == "fine"
    sent = server.received[0]
    assert sent.path == "/openai/deployments/my-deployment/chat/completions?api-version=2025-01-01"
    assert sent.headers["api-key"] == "k"
    assert "authorization" not in sent.headers
